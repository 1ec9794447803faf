"""How long a classic NetCDF file must be, from its header: the library reads what is cut off as zeros."""

import math
import struct
from pathlib import Path
from typing import BinaryIO

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}  # of the external types, in bytes


def is_cut_short(path: Path) -> bool:
    """Whether a NetCDF-3 file (classic, 64-bit offset, 64-bit data) lacks its last values, or has a damaged header.

    Source: NetCDF classic format specification (Unidata), "The Format in Detail".
    """
    with path.open("rb") as file:
        try:
            return _end_of_data(file) > path.stat().st_size
        except (struct.error, KeyError, IndexError):
            return True


def _end_of_data(file: BinaryIO) -> int:
    """The offset after the last value; struct.error if the header itself is cut short."""
    version = file.read(4)[3]
    count, offset = {1: (">I", ">I"), 2: (">I", ">Q"), 5: (">Q", ">Q")}[version]

    def number(form: str = count) -> int:
        return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])

    def skip_padded(size: int) -> None:
        file.seek(-(-size // 4) * 4, 1)

    def length_of_list() -> int:
        number(">I")  # its tag
        return number()

    def skip_attributes() -> None:
        for _ in range(length_of_list()):
            skip_padded(number())
            size = _SIZES[number(">I")]
            skip_padded(size * number())

    records = number()
    dimensions = []
    for _ in range(length_of_list()):
        skip_padded(number())
        dimensions.append(number())
    skip_attributes()

    ends, in_record = [file.tell()], []
    for _ in range(length_of_list()):
        skip_padded(number())
        shape = [dimensions[number()] for _ in range(number())]
        skip_attributes()
        size = _SIZES[number(">I")]
        number()  # its size, which overflows for large variables
        begin = number(offset)
        if shape and shape[0] == 0:  # the record dimension
            in_record.append((begin, size * math.prod(shape[1:])))
        else:
            ends.append(begin + size * math.prod(shape))
    still_writing = records == 2 ** (8 * struct.calcsize(count)) - 1
    if in_record and records and not still_writing:
        record = in_record[0][1] if len(in_record) == 1 else sum(-(-size // 4) * 4 for _, size in in_record)
        ends += [begin + (records - 1) * record + size for begin, size in in_record]
    return max(ends)
