"""Files larger than memory: what is taken is a few blocks, however long the record."""

import contextlib
import ctypes

import netCDF4
import numpy as np
import pytest

from forecast_cli import evaluation
from forecast_cli.benchmark.timing import peak_mib
from forecast_cli.config import load_config
from forecast_cli.data import windows
from forecast_cli.data.fields import open_fields
from forecast_cli.data.forecasts import open_forecast
from forecast_cli.planning import prepare

FRAMES, SIDE = 1024, 128
"""64 MiB in float32."""


def write(path, start, frames, *, dims=("time",), attributes=None):
    """A record of one value a frame, hourly and contiguous; or a forecast of it, (init_time, lead_time), of the same size."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in zip((*dims, "y", "x"), (*frames, SIDE, SIDE), strict=True):
            file.createDimension(name, size)
        hours = {"units": "hours since 2000-01-01"}
        if len(dims) == 1:
            file.createVariable("time", "i8", dims).setncatts(hours)
            file["time"][:] = start + np.arange(*frames)
        else:
            inits, leads = start + frames[1] * np.arange(frames[0]), 1 + np.arange(frames[1])
            for name, there, values, said in (
                ("init_time", dims[:1], inits, hours),
                ("lead_time", dims[1:], leads, {"units": "hours", "dtype": "timedelta64[ns]"}),
                ("valid_time", dims, inits[:, None] + leads, hours),
            ):
                file.createVariable(name, "f8", there).setncatts(said)
                file[name][:] = values
        field = file.createVariable("u", "f4", (*dims, "y", "x"), contiguous=True)
        field.units = "m s-1"
        for row in range(frames[0]):
            values = np.sin(0.1 * (start + row)) + np.arange(SIDE) / SIDE + np.zeros((*frames[1:], SIDE, 1))
            field[row] = values
        file.setncatts(attributes or {})
    return path


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return write(tmp_path_factory.mktemp("memory") / "record.nc", 0, (FRAMES,))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """The same in two files."""
    folder = tmp_path_factory.mktemp("memory")
    return [str(write(folder / f"{n}.nc", n * FRAMES // 2, (FRAMES // 2,))) for n in range(2)]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(windows, "BLOCK_BYTES", 2**20)
    monkeypatch.setattr(evaluation, "BLOCK_BYTES", 2**20)


MMAP_THRESHOLD = -3
"""Of mallopt."""


@pytest.fixture(scope="module", autouse=True)
def _arrays_go_back_to_the_system_when_freed():
    """glibc otherwise keeps what is freed for later: 33 to 50 MiB were measured for what takes 12."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 2**16)


def taken(case):
    """MiB at the most, after a first time that loads what is loaded once; the test is not for systems that do not tell."""
    case()
    found = peak_mib(case)
    if found is None:
        pytest.skip("the system does not say how much memory is taken")
    return found


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("memory", "least", "most"), [("16M", 0, 25), ("80M", 50, 80)])
def test_preparing_a_training_takes_a_few_blocks_or_the_record_once(record, memory, least, most):
    """54 MiB to train on and to validate. Some 12 MiB are taken beside: a block of 1 MiB in float64 and its powers, cycles, the model."""
    config = load_config(options={"data.files": (str(record),), "data.memory": memory, "model.hidden": "4"})
    assert least <= taken(lambda: prepare(config, open_fields(config.data.files))) <= most


def test_a_window_of_joined_files_takes_no_more_than_it_is_large(pieces):
    fields = open_fields(pieces)
    middle = FRAMES // 2
    assert taken(lambda: fields.read(0, middle - 8, middle + 8)) < 5  # 1 MiB, decoded, and as an answer


@pytest.mark.usefixtures("small_blocks")
def test_scores_take_a_few_blocks_of_forecast_and_truth(record, pieces, tmp_path):
    said = {"forecast_kind": "forecast", "forecast_variables": "u", "forecast_model": "m"}
    path = write(tmp_path / "forecast.nc", -1, (32, 32), dims=("init_time", "lead_time"), attributes=said)
    forecast = open_forecast(path)

    def scores(truth=(str(record),)):
        return evaluation.evaluate([forecast], truth, metrics=("rmse", "mae"), baselines=("persistence",))

    assert taken(scores) < 15
    assert scores().equals(scores(pieces))
