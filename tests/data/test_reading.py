import struct

import numpy as np
import pytest

from forecast_cli.data.reading import reading
from forecast_cli.errors import ConfigError, DataError, OutputError


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "no"),
        KeyError(),
        AssertionError(),
        TypeError("first\nsecond"),
        struct.error("x" * 9999),
        RuntimeError(" \n why"),
    ],
)
def test_whatever_a_library_raises_is_one_short_line_that_says_why(error):
    with (
        pytest.raises(DataError, match=r"^a\.nc: damaged \(.+\)\. Copy it again\.$") as told,
        reading("a.nc: damaged", "Copy it again."),
    ):
        raise error
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize("error", [ConfigError("ours"), OutputError("ours"), MemoryError(), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_file_passes(error):
    with pytest.raises(type(error)) as told, reading("a.nc: damaged"):
        raise error
    assert told.value is error


def test_packed_values_that_overflow_are_infinite_without_a_word(recwarn):
    with reading("a.nc"):
        assert np.isinf(np.float64(1e308) * np.array([10.0])).all()
    assert not recwarn
