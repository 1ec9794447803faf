"""What every test may ask for: small domains, small models, small files, the command line."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from files import write_series, write_trajectories
from typer.testing import CliRunner, Result
from weights import randomize

from forecast_cli.config import RunConfig, load_config
from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.models import ForecastModel, build_model

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--order", type=int, metavar="SEED", help="shuffle the files of tests, and the tests of each file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A random order that keeps the tests of a file together: they share what takes long to make."""
    seed = config.getoption("--order")
    if seed is None:
        return
    draws = random.Random(seed)
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups = list(files.values())
    draws.shuffle(groups)
    for group in groups:
        draws.shuffle(group)
    items[:] = [item for group in groups for item in group]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors on few cores: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files that this workplace lends; tests of them stand beside equal tests on files made here."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data on this machine")
    return SHARED_DATA


@pytest.fixture
def domain() -> Domain:
    """Two variables on 6 x 8 periodic cells of 0.2 m, every 0.05 s."""
    return Domain(
        (Variable("u", "m s-1"), Variable("v", "m s-1")),
        Axis("y", 6, "m", 0.1, 0.2),
        Axis("x", 8, "m", 0.1, 0.2),
        TimeStep(0.05, "s"),
        "cartesian",
        "circular",
    )


@pytest.fixture
def tiny_config() -> Callable[..., RunConfig]:
    """A configuration of two small layers; options as 'section.key'."""

    def make(name: str = "minconvlstm", **options: Any) -> RunConfig:
        given = {key.replace("__", "."): value for key, value in options.items()}
        if name == "finn":
            given = {"model.equation": "diffusion-reaction", "model.learn": "reaction,D_u,D_v"} | given
        return load_config(options={"model.name": name, "model.hidden": "5,4", **given})

    return make


@pytest.fixture
def tiny_model(domain: Domain, tiny_config: Callable[..., RunConfig]) -> Callable[..., ForecastModel]:
    """A small model with random weights everywhere (also where training starts from zero) and odd statistics."""

    def make(name: str, **options: Any) -> ForecastModel:
        torch.manual_seed(1)
        model = build_model(tiny_config(name, **options), domain)
        randomize(model)
        shape = model.mean.shape
        model.set_statistics(
            mean=torch.full(shape, 1.5), scale=torch.full(shape, 2.0), change=torch.full_like(model.change, 0.3)
        )
        return model.eval()

    return make


@pytest.fixture
def context(domain: Domain) -> torch.Tensor:
    """(batch 3, time 7, channel, height, width)."""
    return 1.5 + 2 * torch.randn(3, 7, *domain.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("series") / "series.nc")


@pytest.fixture(scope="session")
def trajectories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trajectories(tmp_path_factory.mktemp("trajectories") / "trajectories.nc")


@pytest.fixture
def forecast() -> Callable[..., Result]:
    """Run the command line in this process: forecast("info", path). Checks that no error shows a traceback."""
    from forecast_cli.cli import app

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


TINY = ("--hidden", "4", "--context", "4", "--horizon", "2", "--epochs", "2")


@pytest.fixture(scope="session")
def series_run(series: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory trained on `series`."""
    return _train(series, tmp_path_factory.mktemp("runs") / "series")


@pytest.fixture(scope="session")
def trajectory_run(trajectories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory trained on `trajectories`."""
    return _train(trajectories, tmp_path_factory.mktemp("runs") / "trajectories")


def _train(data: Path, run: Path) -> Path:
    from forecast_cli.cli import app

    result = CliRunner().invoke(app, ["train", str(data), "-o", str(run), *TINY])
    assert result.exit_code == 0, result.output
    return run
