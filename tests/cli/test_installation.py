"""A library that cannot be used is named in one line with exit code 2, and no good file passes for a damaged one."""

import os
import subprocess
import sys

import pytest

from forecast_cli.data.reading import reading
from forecast_cli.errors import DataError, broken_library

INSTALLATION = 2


def with_broken(library, content, line, folder):
    """The command where a library of that name and content comes first."""
    (folder / "first" / library).mkdir(parents=True)
    (folder / "first" / library / "__init__.py").write_text(content)
    path = os.pathsep.join([str(folder / "first"), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "forecast_cli", *map(str, line)]
    return subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=240, check=False
    )


def assert_named(result, library):
    assert (result.returncode, result.stderr.count("\n"), result.stdout) == (INSTALLATION, 1, ""), result.stderr
    assert result.stderr.startswith(f"forecast: the library '{library}' cannot be used (")
    assert f"pip install --force-reinstall {library}" in result.stderr
    assert "damaged" not in result.stderr


@pytest.mark.parametrize(
    "content",
    [
        "raise ImportError('broken')",
        "raise AttributeError('broken')",
        "undefined",
        "raise OSError('libbroken.so: cannot open shared object file')",
        "raise RuntimeError('compiled against another version')",
    ],
)
def test_a_library_that_fails_while_it_is_imported_is_named(content, series, tmp_path):
    assert_named(with_broken("dask", content, ("info", series), tmp_path), "dask")


@pytest.mark.parametrize(
    ("library", "command"),
    [("h5py", "info"), ("netCDF4", "evaluate"), ("torch", "train"), ("pydantic", "train"), ("matplotlib", "plot")],
)
def test_every_command_names_the_library(library, command, series, tmp_path):
    line = {
        "info": ("info", series),
        "evaluate": ("evaluate", series, "--truth", series),
        "train": ("train", series, "-o", tmp_path / "run"),
        "plot": ("plot", series, "-o", tmp_path / "p.png"),
    }[command]
    assert_named(with_broken(library, "raise ImportError('broken')", line, tmp_path), library)


def test_a_broken_store_library_is_not_a_missing_one(tmp_path):
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr" / "zarr.json").write_text("{}")
    result = with_broken("zarr", "raise ImportError('broken')", ("info", tmp_path / "store.zarr"), tmp_path)
    assert_named(result, "zarr")


def lacking_attribute():
    import calendar

    return calendar.none_of_that_name  # type: ignore[attr-defined]


def undefined_name():
    return none_of_that_name  # type: ignore[name-defined]  # noqa: F821


def missing_module():
    import none_of_that_name  # type: ignore[import-not-found]  # noqa: F401


@pytest.mark.parametrize(
    ("fault", "error", "library"),
    [
        (lacking_attribute, AttributeError, "calendar"),
        (missing_module, ImportError, "none_of_that_name"),
        (undefined_name, NameError, None),
    ],
)
def test_a_fault_of_the_software_is_none_of_the_file(fault, error, library):
    with pytest.raises(error) as raised, reading("a.nc: damaged"):
        fault()
    assert broken_library(raised.value) == library


def test_an_attribute_that_a_file_lacks_is_a_fault_of_the_file():
    with pytest.raises(DataError), reading("a.nc: damaged"):
        None.units  # type: ignore[attr-defined]  # noqa: B018
