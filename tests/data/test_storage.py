"""Arrays of HDF5 files that lie in other files."""

import h5py
import numpy as np
import pytest

from forecast_cli.data.protection import refuse_inputs
from forecast_cli.data.storage import _files, refuse_external_storage
from forecast_cli.errors import DataError, OutputError

VALUES = np.random.default_rng(0).random((12, 4, 5))
DIMS = ("--dims", "time=phony_dim_0,y=phony_dim_1,x=phony_dim_2")


@pytest.fixture
def outside(tmp_path):
    """An array whose 240 bytes are those of a file that is no HDF5."""
    (tmp_path / "secret").write_bytes(bytes(range(240)))
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("group/u", (12, 4, 5), "u1", external=[(str(tmp_path / "secret"), 0, 240)])
    return tmp_path / "outside.h5"


@pytest.fixture
def inside(tmp_path):
    with h5py.File(tmp_path / "inside.h5", "w") as file:
        file["group/u"] = VALUES
    return tmp_path / "inside.h5"


def linked(source, path, absolute):
    name = str(source) if absolute else source.name
    with h5py.File(path, "w") as file:
        file["u"] = h5py.ExternalLink(name, "/group/u")
    return path


def linked_group(source, path, absolute):
    name = str(source) if absolute else source.name
    with h5py.File(path, "w") as file:
        file["all/of"] = h5py.ExternalLink(name, "/")
        file["u"] = h5py.SoftLink("/all/of/group/u")
    return path


def virtual(source, path, absolute):
    layout = h5py.VirtualLayout((12, 4, 5), "f8")
    layout[:] = h5py.VirtualSource(str(source) if absolute else source.name, "group/u", (12, 4, 5))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("u", layout)
    return path


LEADING = pytest.mark.parametrize("leading", [linked, linked_group, virtual])
ABSOLUTE = pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])


@pytest.mark.parametrize("place", ["", ":/group", ":/group/u"])
@pytest.mark.parametrize("command", ["info", "evaluate"])
def test_an_array_whose_bytes_lie_in_any_file_is_refused(command, place, outside, series, forecast):
    words = ("info", f"{outside}{place}") if command == "info" else ("evaluate", outside, "--truth", series)
    result = forecast(*words)
    assert result.exit_code == 3
    text = " ".join(result.output.split())
    assert "the bytes of '/group/u' lie in the file" in text
    assert "external storage" in text


@ABSOLUTE
@LEADING
def test_it_is_refused_behind_links_too(leading, absolute, outside, tmp_path):
    first = leading(outside, tmp_path / "first.h5", absolute)
    with pytest.raises(DataError, match=r"outside\.h5: the bytes of '/group/u'"):
        refuse_external_storage(first)
    with h5py.File(tmp_path / "second.h5", "w") as file:
        file["v"] = h5py.ExternalLink(first.name, "/u")
    with pytest.raises(DataError, match=r"outside\.h5: the bytes of '/group/u'"):
        refuse_external_storage(tmp_path / "second.h5")


@pytest.mark.parametrize("name", ["part-%b.h5", "part-%2b.h5"])
def test_the_numbered_sources_of_a_virtual_dataset_are_all_that_fit(name, tmp_path):
    folder = tmp_path / "a [folder]"
    folder.mkdir()
    for number in range(2):
        (folder / f"part-{number}.h5").write_text("")
    fitting = {folder / "part-0.h5", folder / "part-1.h5"}
    assert set(_files(folder / "first.h5", name)) == fitting
    assert set(_files(tmp_path / "first.h5", str(folder / name))) == fitting


@ABSOLUTE
@pytest.mark.parametrize("leading", [linked, virtual])
def test_links_and_virtual_datasets_of_hdf5_files_are_read(leading, absolute, inside, tmp_path, forecast):
    path = leading(inside, tmp_path / "first.h5", absolute)
    refuse_external_storage(path)
    result = forecast("info", path, *DIMS, "--json")
    assert result.exit_code == 0, result.output


def test_files_that_lead_to_each_other_or_to_none_are_checked_once(tmp_path):
    for name, other in (("a", "b"), ("b", "a"), ("c", "missing")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["u"] = h5py.ExternalLink(f"{other}.h5", "/u")
            file["v"] = VALUES
        refuse_external_storage(tmp_path / f"{name}.h5")


def test_a_virtual_dataset_without_its_source_is_refused(inside, tmp_path):
    """HDF5 itself reads zeros."""
    first = virtual(inside, tmp_path / "first.h5", absolute=False)
    refuse_external_storage(first)
    inside.rename(tmp_path / "moved.h5")
    with pytest.raises(DataError, match=f"takes values from the file {inside.name}, which does not exist"):
        refuse_external_storage(first)


@ABSOLUTE
@pytest.mark.parametrize("leading", [linked, virtual])
def test_the_files_that_an_input_leads_to_are_not_overwritten(leading, absolute, inside, tmp_path):
    first = leading(inside, tmp_path / "first.h5", absolute)
    with pytest.raises(OutputError, match="is an input of this command"):
        refuse_inputs(inside, [str(first)])
    refuse_inputs(tmp_path / "other.h5", [str(first)])


def test_a_file_that_may_not_be_read_is_left_to_its_reader(inside, tmp_path, monkeypatch):
    """Root may read everything, so that the refusal of the library is made here."""

    def refused(_):
        raise PermissionError("Unable to determine if file is accessible as hdf5")

    monkeypatch.setattr(h5py, "is_hdf5", refused)
    refuse_external_storage(inside)
    refuse_inputs(tmp_path / "other.nc", [str(inside)])
