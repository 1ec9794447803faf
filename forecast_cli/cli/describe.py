"""What `forecast info` tells of the files that `forecast` made: a run, what it learned, a forecast, scores, an inferred sea bed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


def described(place: str) -> dict[str, Any] | None:
    """The facts about a run directory, its closures, a forecast or a score file, in the order they are told; None for other files."""
    from forecast_cli.data.forecasts import kind_of, trusting

    known = {"run": _run, "forecast": _forecast, "closures": _closures, "topography": _topography, "scores": _scores}
    tell = known.get(kind_of(place))
    if tell is None:
        return None
    with trusting(place):
        return tell(Path(place))


def _run(run: Path) -> dict[str, Any]:
    import csv

    from forecast_cli.checkpoint import METRICS, describe_run, has_state, load_model

    saved, made = load_model(run), describe_run(run)
    with (run / METRICS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    best = next((row for row in rows if int(float(row["epoch"])) == saved.epoch), {})
    config = saved.config
    told = {
        "kind": "run",
        "model": f"{config.model.name}, {made['parameters']:,} parameters",
        "made by": f"forecast_cli {made['forecast_cli']}, torch {made['torch']}",
        "data": ", ".join(config.data.files),
        "variables": ", ".join(f"{v.name} [{v.units or 'no unit'}]" for v in saved.domain.variables),
        "grid": f"{saved.domain.shape[1]} x {saved.domain.shape[2]}, {saved.domain.grid}, every {saved.domain.time_step}",
        "inputs": ", ".join((*saved.domain.static, *saved.domain.forcing)),
    }
    for name, part in saved.parts.items():
        first, last = part["samples"]
        samples = f", samples {first} to {last - 1}" if last - first > 1 else ""
        told[name] = f"{part['times'][0]} to {part['times'][1]}{samples}"
    told |= {
        "windows": f"{config.data.context} true frames, then {config.data.horizon}",
        "epochs": f"{int(float(rows[-1]['epoch']))} of {saved.model.fits or config.training.epochs}, best {saved.epoch}",
        "best": ", ".join(
            f"{key} {float(value):.4g}" for key, value in best.items() if key.endswith("_loss") or "_rmse_" in key
        ),
        "learned": ", ".join(f"{name} = {value:.6g}" for name, value in made.get("learned", {}).items()),
        "resumable": "yes, with --resume auto" if has_state(run) else "no",
        "weights": saved.sha256,
    }
    return told


def _closures(path: Path) -> dict[str, Any]:
    from forecast_cli.data.forecasts import open_written

    with open_written(path) as dataset:
        said = dataset.attrs
        told = {
            "kind": "closures",
            "title": said.get("title", ""),
            "made by": said.get("source", ""),
            "command": _command(said),
        }
        for name, variable in dataset.data_vars.items():
            if variable.ndim == 0:
                told[str(name)] = f"{float(variable):.6g} [{variable.attrs.get('units', '1')}]"
            elif f"{name}_known" in dataset:
                told[str(name)] = (
                    f"{variable.attrs.get('long_name', name)}, against {', '.join(map(str, variable.dims))}"
                )
    return told


def _topography(path: Path) -> dict[str, Any]:
    from forecast_cli.data.forecasts import open_written

    with open_written(path) as dataset:
        said, depth = dataset.attrs, dataset["depth"]
        physics = ("model", "run", "gravity", "coriolis", "beta", "friction", "time_step", "steps_per_frame", "scheme")
        told = {
            "kind": "inferred sea bed",
            "made by": said.get("source", ""),
            "command": _command(said),
            "waves": f"{said['waves']}: {said['observed_variables']}, {said['observations']} values",
            "depth": f"{float(depth.min()):.4g} to {float(depth.max()):.4g} m",
            "bounds": f"{said['min_depth']:.4g} to {said['max_depth']:.4g} m",
            "physics": ", ".join(f"{name} {_short(said[name])}" for name in physics if name in said),
            "prior": said["prior"] + (f" over {said['prior_length']:.4g} m" if "prior_length" in said else ""),
            "descent": f"{said['iterations']} iterations, chi2 {said['reduced_chi2']:.4g}, from {said['start']}",
            "converged": "yes" if said["converged"] else "no: go on with --resume auto",
            "trusted": "yes" if said["trustworthy"] else f"no: {said['reasons']}",
        }
        if "depth_std" in dataset:
            told["deviation"] = f"{float(dataset['depth_std'].median()):.3g} m in the median ({said['uncertainty']})"
        if "gravity_std" in said:
            told["inferred"] = f"gravity {said['gravity']:.5g} m s-2, deviation {said['gravity_std']:.2g}"
        if "warnings" in said:
            told["warnings"] = said["warnings"]
        if "relative_l2" in said:
            told["error"] = f"{said['relative_l2']:.3%}, {said['relative_l2_inner']:.3%} off the walls"
        return told


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{float(value):.6g}"


def _forecast(path: Path) -> dict[str, Any]:
    from forecast_cli.data.forecasts import open_forecast
    from forecast_cli.data.times import show
    from forecast_cli.evaluation import lead_times

    forecast = open_forecast(path)
    said, inits = forecast.dataset.attrs, forecast.init_times
    leads, unit = lead_times(forecast.dataset)
    units = {name: forecast.dataset[name].attrs.get("units", "no unit") for name in forecast.variables}
    return {
        "kind": "forecast",
        "model": f"{said['forecast_model']}, epoch {said.get('forecast_epoch', 'unknown')}",
        "made by": said.get("source", ""),
        "command": _command(said),
        "data": said.get("forecast_data", ""),
        "variables": ", ".join(f"{name} [{unit}]" for name, unit in units.items()),
        "grid": " x ".join(str(size) for size in forecast.dataset[forecast.variables[0]].shape[2:]),
        "starts": f"{len(forecast.starts)}, {show(inits[0])} to {show(inits[-1])}",
        "lead times": f"{len(leads)}, {leads[0]:g} to {leads[-1]:g}" + (f" {unit}" if unit not in ("", "1") else ""),
        "context": f"{said.get('forecast_context', 'unknown')} true frames",
        "weights": said.get("forecast_weights_sha256", ""),
    }


def _scores(path: Path) -> dict[str, Any]:
    from forecast_cli.data.forecasts import open_written
    from forecast_cli.evaluation import lead_times

    with open_written(path) as dataset:
        said = dataset.attrs
        leads, unit = lead_times(dataset)
        told = {"kind": "scores", "made by": said.get("source", ""), "command": _command(said)}
        told |= {name: said.get(name, "") for name in ("forecasts", "truth")}
        told |= {
            f"{name}s": _listed(dataset, name)
            for name in ("model", "metric", "variable", "region")
            if name in dataset.dims
        }
        told["lead times"] = f"{len(leads)}, {leads[0]:g} to {leads[-1]:g}" + (
            f" {unit}" if unit not in ("", "1") else ""
        )
        told |= {"starts": str(said["starts"]), "weights": said["weights"], "averaging": said["averaging"]}
        if "bootstrap" in said:
            told["intervals"] = f"95 %, {said['bootstrap']} draws of blocks of {said['bootstrap_block']} starts"
        if said.get("bootstrap_notes"):
            told["intervals"] += f". {said['bootstrap_notes']}"
        if "spectrum" in dataset:
            told["spectra"] = f"{dataset.sizes['wavenumber']} wavenumbers"
        return told


def _listed(dataset: "xr.Dataset", name: str) -> str:
    return ", ".join(map(str, dataset[name].values))


def _command(said: dict[str, Any]) -> str:
    """The last line of the history: when, and the command."""
    return str(said.get("history", "")).splitlines()[-1] if said.get("history") else ""
