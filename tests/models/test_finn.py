"""FINN: the simulator where it knows everything, and what it learns where it does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from seas import model as sea_model
from torch.testing import assert_close

from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.domain import Axis, TimeStep, Variable
from forecast_cli.equations import PROBLEMS
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.models import build_model, completed
from forecast_cli.physics.integrate import frames
from forecast_cli.planning import prepare
from forecast_cli.simulate.finite_volumes import Plan, SeaBed, simulate

SMALL = {
    "burgers": {"grid": (20,), "duration": 0.4},
    "burgers-2d": {"grid": (9, 10), "duration": 0.4},
    "allen-cahn": {"grid": (20,), "boundaries": {"left": "neumann:0", "right": "dirichlet:0.5"}},
    "diffusion-sorption": {"duration": 50.0, "closures": {"retardation": "langmuir"}},
    "diffusion-reaction": {"grid": (8, 10), "duration": 1.0, "parameters": {"D_u": 2e-3}},
    "shallow-water": {"grid": (10, 12), "duration": 8000.0, "sea_bed": SeaBed("seamount")},
}


def simulated(path, problem, **options):
    given = {"frames": 9, "samples": 2, "dtype": torch.float64} | SMALL[problem] | options
    simulate(Plan(problem, **given), path)
    return path


def config_for(path, problem, **options):
    given = {"model.name": "finn", "model.equation": PROBLEMS[problem].equation.NAME, "data.files": (str(path),)}
    static = {"data.static": "depth"} if problem == "shallow-water" else {}
    return load_config(options=given | static | {key.replace("__", "."): value for key, value in options.items()})


@pytest.mark.parametrize(
    ("problem", "solver"),
    [(p, s) for p in PROBLEMS for s in ("fixed", "dopri5") if (p, s) != ("shallow-water", "dopri5")],
)
def test_with_the_true_closures_it_is_the_simulator_to_rounding(tmp_path, problem, solver):
    """Grid, time step, parameters, boundaries, closures and solver all come back from the file."""
    waves = problem == "shallow-water"
    fixed = {} if waves else {"solver": "rk4"}
    path = simulated(tmp_path / "data.nc", problem, **(fixed if solver == "fixed" else {"tolerance": 1e-9}))
    options = {} if solver == "fixed" else {"model__tolerance": 1e-9}
    model = prepare(config_for(path, problem, **options), open_fields([str(path)])).model.double()
    with xr.open_dataset(path, decode_timedelta=False) as file:
        truth = torch.from_numpy(np.stack([file[v.name].values for v in model.equation.VARIABLES], axis=2))
        depth = torch.from_numpy(file["depth"].values).expand(2, 1, -1, -1) if waves else None
    truth = truth if truth.dim() == 5 else truth.unsqueeze(-2)
    # Adaptive steps are scaled by the spread of the data, which the simulator does not know: alike to the tolerance.
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if solver == "fixed" else {"rtol": 1e-6, "atol": 1e-7}
    assert_close(model(truth[:, :1], 8, static=depth).fields, truth[:, 1:], **tolerance)
    assert_close(model(truth[:, :8], 1, static=depth).fitted, truth[:, 1:8], **tolerance)


def test_adaptive_steps_of_the_same_size_are_the_simulator_to_rounding(tmp_path):
    path = simulated(tmp_path / "data.nc", "burgers", tolerance=1e-7)
    model = prepare(config_for(path, "burgers"), open_fields([str(path)])).model.double()
    start = torch.linspace(-1, 1, 20, dtype=torch.float64).sin().view(1, 1, 1, -1)
    solver = model._solver(model.present_equation())
    again = frames(model.equation, start, model.interval, 8, solver)
    assert_close(model(start.unsqueeze(1), 8).fields, again, rtol=0, atol=0)


@pytest.fixture
def burgers(tmp_path):
    """A file, and what it says of itself."""
    path = simulated(tmp_path / "burgers.nc", "burgers", parameters={"D": 0.02}, boundaries={"left": "dirichlet:0.1"})
    return path, open_fields([str(path)])


def test_the_user_is_stronger_than_the_file_and_the_file_than_the_equation(burgers):
    path, fields = burgers
    told = completed(config_for(path, "burgers").model, fields.dataset.attrs)
    assert (told.parameters["D"], told.boundaries["left"], told.solver) == (0.02, "dirichlet:0.1", "dopri5")
    said = config_for(path, "burgers", model__parameters={"D": 0.5}, model__boundaries="all=wall", model__solver="heun")
    assert completed(said.model, fields.dataset.attrs).parameters == {"D": 0.5}
    assert completed(said.model, fields.dataset.attrs).boundaries == {"all": "wall"}
    assert completed(said.model, fields.dataset.attrs).solver == "heun"
    model = build_model(config_for(path, "burgers"), fields.domain)
    assert model.equation.parameters["D"] == pytest.approx(0.01 / np.pi)


def test_what_is_to_be_learned_does_not_start_at_the_truth(burgers):
    path, fields = burgers
    model = prepare(config_for(path, "burgers", model__learn="D,left"), fields).model
    numbers = model.learned_numbers()
    assert abs(numbers["D"][0] / 0.02 - 1) > 0.1
    assert abs(numbers["left"][0] - 0.1) > 0.01
    given = prepare(config_for(path, "burgers", model__learn="D", model__parameters={"D": 0.3}), fields).model
    assert given.learned_numbers()["D"][0] == pytest.approx(0.3)


def test_nothing_is_taken_from_the_file_of_another_equation(burgers):
    path, fields = burgers
    other = {**fields.dataset.attrs, "equation": "allen-cahn"}
    assert completed(config_for(path, "burgers").model, other).parameters == {}


def test_a_longer_step_than_the_stable_one_is_refused_with_the_limit(burgers):
    path, fields = burgers
    config = config_for(path, "burgers", model__solver="euler", model__parameters={"D": 0.1}, model__time_step=0.05)
    prepared = prepare(config, fields)
    with pytest.raises(
        ConfigError, match=r"model.time_step = 0.05: steps of 0.05 are unstable; the limit of euler is 0\.0\d+"
    ):
        prepared.model(torch.zeros(1, 1, 1, 1, 20), 1)


REFUSED = {
    "no equation": ({"model__equation": ""}, ConfigError, "FINN needs one of burgers, allen-cahn"),
    "unknown equation": ({"model__equation": "maxwell"}, ConfigError, "'maxwell'"),
    "unknown closure": (
        {"model__learn": "drag"},
        ConfigError,
        "no 'drag' to learn. It has advection, D, left, right, stencil",
    ),
    "unknown parameter": (
        {"model__parameters": {"nu": 1.0}},
        ConfigError,
        "model.parameters nu: burgers has no such name",
    ),
    "negative": ({"model__parameters": {"D": -1.0}}, ConfigError, "the diffusivity D must be a number of at least 0"),
    "unknown boundary": ({"model__boundaries": "left=open"}, ConfigError, "no boundary condition 'open'"),
    "half periodic": ({"model__boundaries": "left=periodic"}, ConfigError, "both are periodic, or neither"),
    "valueless": ({"model__learn": "left", "model__boundaries": "left=wall"}, ConfigError, "no value to learn"),
    "solver": ({"model__solver": "forward-backward"}, ConfigError, "burgers takes dopri5, rk4"),
    "masks": ({"data__nan": "mask"}, ConfigError, "no missing values"),
    "pointwise": ({"data__normalize": "pointwise"}, ConfigError, "leave data.normalize = global"),
    "nearly": ({"model__equation": "burgers-2d"}, ConfigError, "did you mean burgers"),
    "static": ({"data__coordinates": "x"}, ConfigError, "burgers takes no static fields"),
    "other variables": ({"model__equation": "shallow-water"}, ConfigError, "has 2 dimension"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(burgers, case):
    options, kind, message = REFUSED[case]
    path, fields = burgers
    with pytest.raises(kind, match=message) as caught:
        prepare(config_for(path, "burgers", **options), fields)
    assert "\n" not in str(caught.value)


def test_grids_and_times_that_no_equation_fits_are_refused(burgers):
    path, fields = burgers
    config, domain = config_for(path, "burgers"), fields.domain
    for wrong, message in (
        (replace(domain, x=replace(domain.x, spacing=None)), "evenly spaced"),
        (replace(domain, x=replace(domain.x, spacing=-0.1)), "descends"),
        (replace(domain, grid="latitude-longitude"), "latitude-longitude"),
        (replace(domain, time_step=TimeStep(1.0, "month")), "unit of time"),
        (replace(domain, time_step=TimeStep(1.0, "frame")), "without times"),
    ):
        with pytest.raises(DataError, match=message):
            build_model(config, wrong)
    with pytest.raises(ConfigError, match="Choose with --variable"):
        build_model(config, replace(domain, variables=(*domain.variables, Variable("w"))))


def test_variables_by_the_equations_names_come_in_its_order(burgers):
    path, fields = burgers
    domain = replace(fields.domain, variables=(Variable("c_tot"), Variable("c")), x=Axis("x", 20, "m", 0.0, 0.05))
    with pytest.raises(ConfigError, match=r"about c, c_tot, in this order; the data have c_tot, c"):
        build_model(config_for(path, "diffusion-sorption"), domain)


def test_land_and_a_missing_depth_are_refused(tmp_path):
    path = simulated(tmp_path / "waves.nc", "shallow-water")
    fields = open_fields([str(path)])
    model = prepare(config_for(path, "shallow-water"), fields).model
    state, depth = torch.zeros(1, 1, 3, 10, 12), torch.full((1, 1, 10, 12), 50.0)
    depth[..., 3, 4] = -2
    with pytest.raises(DataError, match="-2 m somewhere: shallow-water has no land"):
        model(state, 1, static=depth)
    with pytest.raises(ConfigError, match="one static field, the depth"):
        prepare(config_for(path, "shallow-water", data__static=()), fields)


def test_depth_receives_a_gradient_through_the_model(tmp_path):
    """What the inversion of topography stands on."""
    path = simulated(tmp_path / "waves.nc", "shallow-water")
    model = prepare(config_for(path, "shallow-water"), open_fields([str(path)])).model.requires_grad_(False)
    depth = torch.full((1, 1, 10, 12), 80.0, requires_grad=True)
    state = torch.from_numpy(open_fields([str(path)]).read(0, 0, 1))[None]
    model(state, 8, static=depth).fields.square().mean().backward()
    assert torch.isfinite(depth.grad).all()
    assert (depth.grad != 0).any()


def test_a_correction_of_the_transport_starts_near_the_known_one(tmp_path):
    path = simulated(tmp_path / "waves.nc", "shallow-water")
    fields = open_fields([str(path)])
    learned = prepare(config_for(path, "shallow-water", model__learn="transport"), fields)
    known = prepare(config_for(path, "shallow-water"), fields)
    batch = known.training.batch([0])
    one, other = (p.model(batch.frames[:, :1], 8, static=batch.static).fields for p in (learned, known))
    assert 0 < float((one - other).detach().abs().max()) < 0.1 * float(other.abs().max())
    (function,) = learned.model.learned_functions()
    assert function.learned.shape == (1, 33, 33)
    assert function.channels is None


def test_what_is_learned_keeps_the_step_that_is_said(tmp_path):
    """Up to the stable one, 2045 s over 100 m: a margin would make two steps of one, and of the waves others than those of the file."""
    path = simulated(tmp_path / "waves.nc", "shallow-water", duration=8 * 2000.0, time_step=2000.0)
    prepared = prepare(config_for(path, "shallow-water", model__learn="transport"), open_fields([str(path)]))
    batch = prepared.training.batch([0])
    for parameter in prepared.model.closures["transport"].network.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    fields = prepared.model(batch.frames[:, :1], 8, static=batch.static).fields
    assert_close(fields, batch.frames[:, 1:], rtol=1e-4, atol=1e-6)


def test_learned_functions_span_the_training_part(burgers):
    path, fields = burgers
    prepared = prepare(config_for(path, "burgers", model__learn="advection"), fields)
    (function,) = prepared.model.learned_functions()
    (name, unit, values), record = function.inputs[0], fields.read(0, 0, 9)
    assert (name, unit, function.channels) == ("u", "1", [0])
    assert (float(values[0]), float(values[-1])) == pytest.approx((record.min(), record.max()))
    assert_close(function.known[0], values)


def test_a_diffusivity_starts_at_a_tenth_of_one_step_a_frame(burgers):
    """Cells of 0.1 and frames 0.05 apart: 0.1 * 0.1^2 / (2 * 0.05)."""
    path, fields = burgers
    model = prepare(config_for(path, "burgers", model__learn="D"), fields).model
    assert model.learned_numbers()["D"][0] == pytest.approx(0.01)


@pytest.mark.parametrize(("mean", "ends"), [(10.0, (6.0, 14.0)), (3.0, (0.0, 7.0))])
def test_a_function_of_the_depth_spans_two_deviations_around_its_mean(mean, ends):
    model = sea_model(learn=("transport",), per_frame=1)
    model.set_statistics(static_mean=torch.full((1, 1, 1), mean), static_scale=torch.full((1, 1, 1), 2.0))
    (function,) = model.learned_functions()
    depths = function.inputs[1][2]
    assert (float(depths[0]), float(depths[-1])) == pytest.approx(ends)
