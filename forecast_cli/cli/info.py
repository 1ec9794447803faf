"""forecast info"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast_cli.cli import describe, shared

if TYPE_CHECKING:
    from forecast_cli.data.fields import Fields


def info(
    files: Annotated[list[str], typer.Argument(help=f"{shared.DATA_HELP} Or a run, a forecast, scores.")],
    variable: shared.Variables = None,
    dims: shared.Dims = None,
    select: shared.Select = None,
    time_as_steps: shared.TimeAsSteps = False,
    json_: shared.Json = False,
) -> None:
    """Print what was understood of data files, or what made a run, a forecast or scores."""
    told = describe.described(files[0]) if len(files) == 1 else None
    if told:
        _print(told, files[0], json_)
        return
    from forecast_cli.data.fields import open_fields

    fields = open_fields(
        files,
        variables=shared.names(variable) or (),
        dims=shared.dims_of(dims),
        select=shared.assignments(select, "--select"),
        time_as_steps=time_as_steps,
        static=True,
    )
    shared.note(fields)
    found = _understood(fields)
    if json_:
        shared.print_json(found)
        return
    rows = [
        (
            "variables",
            "; ".join(
                f"{v['name']} [{v['units'] or 'no unit'}], {v['missing']:.2%} missing" for v in found["variables"]
            ),
        )
    ]
    rows.append(("values", "; ".join(_values(v) for v in found["variables"]) + _sampled(found["share_read"])))
    rows += [(role, _axis(axis)) for role, axis in found["dimensions"].items() if axis]
    rows += [
        ("squeezed", ", ".join(found["squeezed"])),
        ("time step", found["time_step"]),
        ("calendar", found["calendar"] or "none: times are plain numbers"),
        ("grid", found["grid"]),
        ("boundary", f"{found['boundary']} (chosen by model.boundary = auto)"),
        ("in memory", shared.size(found["bytes"])),
    ]
    _print(dict(rows), found["source"], as_json=False)


def _print(told: dict[str, Any], place: str, as_json: bool) -> None:
    """Facts line by line, without the empty ones."""
    if as_json:
        shared.print_json({"source": place} | told)
        return
    shared.say(place)
    for name, text in told.items():
        if text:
            shared.say(f"  {name:<11}{text}")


def _values(variable: dict[str, Any]) -> str:
    if variable["mean"] is None:
        return f"{variable['name']} has none"
    lowest, mean, highest = (f"{variable[key]:.5g}" for key in ("minimum", "mean", "maximum"))
    return f"{variable['name']} {lowest} to {highest}, mean {mean}"


def _sampled(share: float) -> str:
    return "" if share == 1 else f" (from a sample: {share:.2g} of the frames)"


def _axis(axis: dict[str, Any]) -> str:
    text = f"{axis['size']} along '{axis['name']}'"
    if axis.get("first") is not None:
        text += f", {axis['first']} to {axis['last']}"
    return text + (f" {axis['units']}" if axis.get("units") else "")


def _understood(fields: "Fields") -> dict[str, Any]:
    """The facts that `info` prints, as plain data."""
    import numpy as np

    from forecast_cli.data.grid import map_places
    from forecast_cli.data.roles import coordinate_of
    from forecast_cli.data.summaries import summarize

    domain, roles, times = fields.domain, fields.roles, fields.times
    summaries, share = summarize(fields)
    dimensions: dict[str, Any] = {
        "sample": {"name": roles.sample, "size": fields.samples} if roles.sample else None,
        "time": {
            "name": roles.time,
            "size": fields.frames,
            "first": times.show(0),
            "last": times.show(-1),
        },
    }
    for role, axis in (("y", domain.y), ("x", domain.x)):
        if axis is None:
            dimensions[role] = None
            continue
        coordinate = coordinate_of(fields.dataset, axis.name, role)
        ends = [None, None] if axis.first is None or coordinate is None else map_places(coordinate)[[0, -1]].tolist()
        first, last = (None if end is None else float(f"{end:.7g}") for end in ends)
        dimensions[role] = {
            "name": axis.name,
            "size": axis.size,
            "first": first,
            "last": last,
            "spacing": axis.spacing,
            "units": axis.units,
        }
    return {
        "source": fields.source,
        "variables": [
            {
                "name": v.name,
                "units": v.units,
                "long_name": v.long_name,
                "standard_name": v.standard_name,
                "missing": summary.missing_share,
                "minimum": summary.minimum if summary.count else None,
                "mean": summary.mean if summary.count else None,
                "maximum": summary.maximum if summary.count else None,
            }
            for v, summary in zip(domain.variables, summaries, strict=True)
        ],
        "share_read": share,
        "dimensions": dimensions,
        "squeezed": list(fields.squeezed),
        "time_step": str(times.step),
        "calendar": times.calendar,
        "grid": domain.grid,
        "boundary": domain.boundary,
        "bytes": int(np.prod(domain.shape)) * 4 * fields.samples * fields.frames,
    }
