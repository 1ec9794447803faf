"""The score file: labelled arrays, and what is printed of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields
from forecast_cli.data.forecasts import ForecastFile
from forecast_cli.data.times import duration_unit
from forecast_cli.evaluation.resampling import FEWEST, LEVEL
from forecast_cli.evaluation.spectra import Rings
from forecast_cli.metrics import METRICS

AXES = ("model", "metric", "variable", "lead_time", "region")
_UNITS = "in the unit of the variable, acc without unit"
_TOO_FEW = f"the interval is not reliable where there are fewer than {FEWEST}"


def dataset_of(
    scores: Mapping[str, np.ndarray],
    pairs: np.ndarray,
    available: np.ndarray,
    *,
    labels: Sequence[str],
    metrics: Sequence[str],
    regions: Sequence[str],
    forecasts: Sequence[ForecastFile],
    truth: Fields,
    said: Mapping[str, Any],
) -> xr.Dataset:
    """Scores as a dataset.

    scores: "score" and, where they were resampled, "score_bounds", "difference", "difference_bounds" and the numbers of
    independent starts, each (model, metric, variable, lead, region[, bound]). pairs: (model, variable, lead).
    available: (truth and models, variable, lead). regions: the first is the whole grid; alone it makes no dimension.
    said: further attributes.
    """
    meanings = {
        "score": "score",
        "score_bounds": f"bounds of the {LEVEL:.0%} interval of the score, from resampled starts",
        "difference": f"score minus that of {labels[0]}",
        "difference_bounds": f"bounds of the {LEVEL:.0%} interval of the difference, from the same resampled starts",
        "independent_starts": "number of independent starts that the score is over",
        "difference_independent_starts": "number of independent starts that the difference is over",
    }
    found: dict[str, Any] = {
        "pairs": (
            ("model", "variable", "lead_time"),
            pairs,
            {"long_name": "pairs of values compared, those that all models have"},
        ),
        "pairs_available": (
            ("model", "variable", "lead_time"),
            available[1:],
            {"long_name": "pairs of values that this model has, some of which others may lack"},
        ),
        "truth_values": (("variable", "lead_time"), available[0], {"long_name": "values of the truth at the starts"}),
    }
    for name, values in scores.items():
        dims = (*AXES, "bound")[: values.ndim]
        comment = _TOO_FEW if name.endswith("independent_starts") else _UNITS
        found[name] = xr.Variable(dims, values, {"long_name": meanings[name], "comment": comment})
        if len(regions) == 1:
            found[name] = found[name].isel(region=0)
        if name.startswith("difference"):
            found[name].attrs["relative_to"] = labels[0]
    units = {variable.name: variable.units for variable in truth.domain.variables}
    coords: dict[str, Any] = {
        "model": list(labels),
        "metric": list(metrics),
        "variable": list(units),
        "lead_time": forecasts[0].dataset["lead_time"].variable,
        "units": ("variable", [units[name] for name in units], {"long_name": "unit of the variable"}),
    }
    if len(regions) > 1:
        coords["region"] = list(regions)
    if "score_bounds" in scores:
        coords["bound"] = ["lower", "upper"]
    attributes = {
        "title": f"Scores of {', '.join(labels)}",
        "forecast_kind": "scores",
        "averaging": "; ".join(f"{name}: {METRICS[name].meaning}" for name in metrics),
        "weights": "cell area" if truth.domain.grid == "latitude-longitude" else "equal",
        "truth": truth.source,
        "forecasts": " ".join(str(forecast.path) for forecast in forecasts),
    }
    return xr.Dataset(found, coords, attributes | dict(said))


def with_spectra(scores: xr.Dataset, power: np.ndarray, starts: np.ndarray, grid: Rings) -> xr.Dataset:
    """The score dataset with the mean spectra.

    power: (truth and models, variable, lead, wavenumber). starts: (variable, lead), those that the means are over.
    """
    how = (
        "along longitude, averaged over latitudes by area"
        if grid.zonal
        else "summed over directions; open directions without trend, under a Hann window"
    )
    how += (
        ". Power times width_of_rings sums to the variance. Starts at which truth and every model have a whole field."
    )
    dims = ("field", "variable", "lead_time", "wavenumber")
    spectrum = xr.Variable(dims, power, {"long_name": "power spectrum, mean over starts", "comment": how})
    name = "zonal wavenumber" if grid.zonal else "wavenumber"
    attributes = {"long_name": name, "units": grid.units, "width_of_rings": grid.step}
    wavenumber = xr.Variable("wavenumber", grid.wavenumbers, attributes)
    counted = xr.Variable(dims[1:3], starts, {"long_name": "starts that the mean spectra are over"})
    fields = ["truth", *scores["model"].values.tolist()]
    return scores.assign(spectrum=spectrum, spectrum_starts=counted).assign_coords(wavenumber=wavenumber, field=fields)


def note_on_pairs(dataset: xr.Dataset) -> str | None:
    """Report how many pairs each model has where they are compared over fewer than it, or the truth, has; else None."""
    compared, available = dataset["pairs"], dataset["pairs_available"]
    if (dataset["truth_values"] == compared).all():
        return None
    alone = available.sum(["variable", "lead_time"])
    listed = ", ".join(
        f"{model} {int(count)}" for model, count in zip(alone["model"].values, alone.values, strict=True)
    )
    shared = int(compared.isel(model=0).sum())
    values = int(dataset["truth_values"].sum())
    return f"scores are over the {shared} pairs of values that all models share; each alone has: {listed}; the truth {values}"


def lead_times(dataset: xr.Dataset) -> tuple[list[float], str]:
    """Lead times of a score or forecast file as numbers, and their unit."""
    variable = dataset["lead_time"]
    if variable.dtype.kind != "m":
        return variable.values.astype(float).tolist(), str(variable.attrs.get("units", "1"))
    seconds = variable.values / np.timedelta64(1, "s")
    unit, size = duration_unit(seconds)
    return (seconds / size).tolist(), unit


def as_json(dataset: xr.Dataset) -> dict[str, object]:
    """The scores as plain lists by model, metric and variable; a score that does not exist is None.

    "bounds" holds [lower, upper] in the same way, "regions" the same for each region; "notes" is there where models lack
    pairs, "bootstrap_notes" where intervals are not reliable.
    """
    leads, units = lead_times(dataset)
    told: dict[str, object] = {"lead_time": leads, "lead_time_units": units}
    if note := note_on_pairs(dataset):
        told["notes"] = [note]
    if "bootstrap_notes" in dataset.attrs:
        told["bootstrap_notes"] = dataset.attrs["bootstrap_notes"]
    if "region" not in dataset.dims:
        return told | _listed(dataset)
    named = [str(region) for region in dataset["region"].values]
    return (
        told
        | _listed(dataset.sel(region="all"))
        | {"regions": {region: _listed(dataset.sel(region=region)) for region in named[1:]}}
    )


def _listed(dataset: xr.Dataset) -> dict[str, Any]:
    names = {
        "score": "scores",
        "score_bounds": "bounds",
        "difference": "differences",
        "difference_bounds": "difference_bounds",
        "independent_starts": "independent_starts",
        "difference_independent_starts": "difference_independent_starts",
    }
    told: dict[str, Any] = {}
    for name, heading in names.items():
        if name not in dataset:
            continue
        for model in dataset["model"].values.tolist():
            for metric in dataset["metric"].values.tolist():
                for variable in dataset["variable"].values.tolist():
                    row = dataset[name].sel(model=model, metric=metric, variable=variable).values
                    table = told.setdefault(heading, {}).setdefault(model, {}).setdefault(metric, {})
                    table[variable] = _without_nan(row.tolist())
    return told


def _without_nan(values: Any) -> Any:
    """Nested lists of numbers with None for NaN, which JSON does not know."""
    if isinstance(values, list):
        return [_without_nan(value) for value in values]
    return None if np.isnan(values) else values
