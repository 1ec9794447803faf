"""No output may replace, contain or lie inside an input, by whatever name either is given."""

from pathlib import Path

import pytest

from forecast_cli.data.protection import refuse_inputs
from forecast_cli.errors import OutputError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A file, links to it, a store and a folder of files, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for path in ("data/t.nc", "store.zarr/zarr.json", "store.zarr/t2m/c.0", "data/a[1].nc", "lr=0.1/t.nc", "other.nc"):
        Path(path).parent.mkdir(exist_ok=True, parents=True)
        Path(path).write_text("kept")
    Path("link.nc").symlink_to("data/t.nc")
    Path("chain.nc").symlink_to("link.nc")
    Path("linked").symlink_to("data")
    Path("hard.nc").hardlink_to("data/t.nc")
    Path("loop.nc").symlink_to("loop.nc")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("data/t.nc", "data/t.nc"),
        ("data/../data/t.nc", "data/t.nc"),
        ("linked/../data/t.nc", "linked/t.nc"),
        ("link.nc", "data/t.nc"),
        ("data/t.nc", "link.nc"),
        ("link.nc", "chain.nc"),
        ("chain.nc", "data/t.nc"),
        ("linked/t.nc", "data/t.nc"),
        ("hard.nc", "data/t.nc"),
        ("data/t.nc", "hard.nc"),
        ("data/t.nc", "data/*.nc"),
        ("data/t.nc", "**/t.nc"),
        ("data/a[1].nc", "data/a[1].nc"),
        ("data/t.nc", "data/t.nc:/group/field"),
        ("data/t.nc", "data/t.nc:depth"),
        ("data/t.nc", "data/t.nc:mask=2"),
        ("data/t.nc", "data/*.nc:mask=2"),
        ("lr=0.1/t.nc", "lr=0.1/t.nc:mask=2"),
        # What is written or removed beside an output.
        ("data/t", "data/t.partial"),
        ("data/t", "data/t.replaced"),
        # Folders, from outside and from inside.
        ("data", "data/t.nc"),
        ("linked", "data/t.nc"),
        (".", "data/t.nc"),
        ("data", "link.nc"),
        ("store.zarr", "store.zarr"),
        ("store.zarr", "store.zarr/"),
        ("store.zarr/scores.nc", "store.zarr"),
        ("store.zarr/t2m/c.0", "store.zarr"),
        ("missing.nc", "missing.nc"),
    ],
)
def test_an_output_that_could_destroy_an_input_is_refused(output, place, folder):
    Path("data/t.partial").touch()
    Path("data/t.replaced").touch()
    with pytest.raises(OutputError, match="an input of this command"):
        refuse_inputs(Path(output), ["other.nc", place])
    with pytest.raises(OutputError, match="an input of this command"):
        refuse_inputs(folder / output, ["other.nc", place])


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("out.nc", "data/t.nc"),
        ("data/out.nc", "data/t.nc"),
        ("data/out.nc", "data/*.nc"),
        ("other.nc", "data/t.nc"),
        ("store.nc", "store.zarr"),
        ("store.zarr2", "store.zarr"),
        ("lr", "lr=0.1/t.nc"),
        ("other.nc", "other.nc2"),
        ("out.nc", "loop.nc"),
        ("loop.nc", "data/t.nc"),
        ("run", "run.nc"),
    ],
)
def test_any_other_output_is_accepted(output, place, folder):
    refuse_inputs(Path(output), [place])
    refuse_inputs(folder / output, [place])
