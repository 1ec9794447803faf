import numpy as np
import pytest
import xarray as xr

SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def run_of(forecast, data, run):
    """A tiny model of some data."""
    options = ("--hidden", 2, "--context", 3, "--horizon", 1, "--epochs", 1)
    assert forecast("train", data, "-o", run, *options).exit_code == 0
    return run


@pytest.fixture
def forecast_file(forecast, series, series_run, tmp_path):
    path = tmp_path / "fc.nc"
    assert forecast("rollout", series_run, "--data", series, "-o", path, "--steps", 3).exit_code == 0
    return path


@pytest.fixture
def score_file(forecast, series, forecast_file, tmp_path):
    path, options = tmp_path / "scores.nc", ("--metric", "acc,rmse,bias", "--baseline", "persistence,climatology")
    assert forecast("evaluate", forecast_file, "--truth", series, "-o", path, *options).exit_code == 0
    return path


@pytest.fixture
def figures(monkeypatch):
    """Figures as they are when they are saved."""
    from forecast_cli.plots import curves, maps, style

    drawn: list = []

    def save(figure, *rest):
        drawn.append(figure)
        style.save(figure, *rest)

    for module in (curves, maps):
        monkeypatch.setattr(module, "save", save)
    return drawn


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("scores", "svg"), ("forecast", "png"), ("forecast and truth", "pdf"), ("series", "pdf"), ("trajectories", "png")],
)
def test_every_kind_of_file_gives_a_picture(kind, ending, forecast, series, trajectories, request, tmp_path):
    files = {
        "series": lambda: series,
        "trajectories": lambda: trajectories,
        "scores": lambda: request.getfixturevalue("score_file"),
    }
    file = files.get(kind, lambda: request.getfixturevalue("forecast_file"))()
    truth = ("--truth", series) if kind == "forecast and truth" else ()
    image = tmp_path / f"picture.{ending}"
    result = forecast("plot", file, "-o", image, *truth)
    assert (result.exit_code, result.stderr) == (0, f"{image}: written\n")
    assert image.read_bytes().startswith(SIGNATURES[ending])
    assert image.stat().st_size > 5000


def test_a_forecast_is_drawn_beside_its_truth_and_its_error(forecast, series, forecast_file, figures, tmp_path):
    forecast("plot", forecast_file, "-o", tmp_path / "p.png", "--truth", series, "--start", 2, "--lead", "1,3")
    drawn = np.array([axis.collections[0].get_array() for axis in figures[0].axes[:6]]).reshape(3, 2, 6, 8)
    with xr.open_dataset(forecast_file) as predicted, xr.open_dataset(series) as truth:
        expected = predicted["t2m"].isel(init_time=2, lead_time=[0, 2])
        true = truth["t2m"].sel(time=predicted["valid_time"].isel(init_time=2, lead_time=[0, 2]))
        np.testing.assert_allclose(drawn, [true, expected, expected - true], rtol=1e-5, atol=1e-5)


def test_errors_alone_are_drawn_on_a_logarithmic_axis(score_file, forecast, figures, tmp_path):
    forecast("plot", score_file, "--log", "-o", tmp_path / "p.png")
    assert {axis.get_ylabel(): axis.get_yscale() for axis in figures[0].axes} == {
        "ACC": "linear",
        "RMSE [K]": "log",
        "bias [K]": "linear",
    }


def test_scores_are_drawn_for_every_model_that_has_them_and_the_legend_names_all(
    score_file, forecast, figures, tmp_path
):
    forecast("plot", score_file, "-o", tmp_path / "p.png")
    curves = [
        {line.get_label(): list(line.get_ydata()) for line in axis.lines if not line.get_label().startswith("_")}
        for axis in figures[0].axes
    ]
    assert [set(found) for found in curves] == [
        {"minconvlstm", "persistence"},
        *[{"minconvlstm", "persistence", "climatology"}] * 2,
    ]
    with xr.open_dataset(score_file) as scores:
        assert (
            curves[1]["persistence"]
            == scores["score"].sel(model="persistence", metric="rmse", variable="t2m").values.tolist()
        )
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        "minconvlstm",
        "persistence",
        "climatology",
    ]


def test_fields_in_one_dimension_are_drawn_as_lines(forecast, figures, tmp_path):
    x, time = np.linspace(0, 1, 8, endpoint=False), np.arange(30.0)
    values = np.sin(2 * np.pi * (x - 0.02 * time[:, None]))
    xr.Dataset({"u": (("time", "x"), values)}, {"time": time, "x": x}).to_netcdf(tmp_path / "line.nc")
    run, predicted = run_of(forecast, tmp_path / "line.nc", tmp_path / "run"), tmp_path / "fc.nc"
    assert forecast("rollout", run, "--data", tmp_path / "line.nc", "-o", predicted).exit_code == 0
    assert forecast("plot", predicted, "--truth", tmp_path / "line.nc", "-o", tmp_path / "fc.png").exit_code == 0
    assert forecast("plot", tmp_path / "line.nc", "-o", tmp_path / "line.png", "--lead", "3").exit_code == 0
    assert [len(axis.lines) for axis in figures[0].axes] == [1, 1, 1]
    np.testing.assert_allclose(figures[1].axes[0].lines[0].get_xydata(), np.stack([x, values[3]], axis=1), rtol=1e-6)


@pytest.mark.parametrize("height", [1, 3])
@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_a_field_that_is_constant_or_missing_is_drawn_without_complaint(forecast, tmp_path, height, value):
    fields = xr.Dataset({"u": (("time", "y", "x"), np.full((3, height, 4), value))}, {"time": [0.0, 1.0, 2.0]})
    fields.to_netcdf(tmp_path / "flat.nc")
    result = forecast("plot", tmp_path / "flat.nc", "-o", tmp_path / "p.png")
    assert (result.exit_code, result.stderr) == (0, f"{tmp_path / 'p.png'}: written\n")


def test_lead_times_beyond_the_truth_are_drawn_empty(forecast, series, series_run, tmp_path):
    arguments = ("--data", series, "-o", tmp_path / "fc.nc", "--init-time", "2000-01-15T12", "--steps", 3)
    assert forecast("rollout", series_run, *arguments).exit_code == 0
    result = forecast("plot", tmp_path / "fc.nc", "--truth", series, "--lead", "3", "-o", tmp_path / "p.png")
    assert (result.exit_code, result.stderr) == (0, f"{tmp_path / 'p.png'}: written\n")


@pytest.mark.parametrize("name", ["picture.docx", "picture"])
def test_an_unknown_ending_is_refused_with_those_that_are_known(forecast, series, tmp_path, name):
    result = forecast("plot", series, "-o", tmp_path / name)
    assert (result.exit_code, result.stderr.count("\n")) == (7, 1)
    assert "png" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_overwritten_only_when_asked(forecast, series, tmp_path):
    image = tmp_path / "p.png"
    image.write_text("kept")
    result = forecast("plot", series, "-o", image)
    assert (result.exit_code, result.stderr.count("\n"), image.read_text()) == (7, 1, "kept")
    assert forecast("plot", series, "-o", image, "--overwrite").exit_code == 0
    assert image.read_bytes().startswith(SIGNATURES["png"])


@pytest.mark.parametrize(
    ("options", "code"),
    [(("--lead", "99"), 2), (("--lead", "one"), 2), (("--start", "1"), 2), (("--variable", "t3m"), 3)],
)
def test_what_the_file_does_not_hold_cannot_be_drawn(forecast, series, tmp_path, options, code):
    result = forecast("plot", series, "-o", tmp_path / "p.png", *options)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)


@pytest.fixture
def sure_scores(forecast, series, forecast_file, tmp_path):
    """Scores with intervals, a region and spectra."""
    path = tmp_path / "sure.nc"
    options = ("--baseline", "persistence", "--bootstrap", 50, "--region", "north=45:,:", "--spectra")
    assert forecast("evaluate", forecast_file, "--truth", series, "-o", path, *options).exit_code == 0
    return path


def test_intervals_are_bands_and_every_region_has_a_row(sure_scores, forecast, figures, tmp_path):
    assert forecast("plot", sure_scores, "-o", tmp_path / "p.png").exit_code == 0
    assert [axis.get_ylabel() for axis in figures[0].axes] == ["RMSE, all [K]", "RMSE, north [K]"]
    with xr.open_dataset(sure_scores) as scores:
        bounds = scores["score_bounds"].sel(model="minconvlstm", metric="rmse", variable="t2m", region="all").values
    band = figures[0].axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((bounds.min(), bounds.max()))


def test_bands_that_are_not_reliable_are_hatched(sure_scores, figures, tmp_path):
    from forecast_cli.plots import plot_scores

    with xr.open_dataset(sure_scores) as scores:
        few = xr.zeros_like(scores["independent_starts"]) + 6
        for count, name in ((6, "sure.png"), (5.9, "unsure.png")):
            few[{"model": 0, "lead_time": 0}] = count
            plot_scores(scores.assign(independent_starts=few), tmp_path / name)
        plot_scores(scores.drop_vars("independent_starts"), tmp_path / "earlier.png")
    hatched = [[bool(band.get_hatch()) for band in figure.axes[0].collections] for figure in figures]
    assert [sum(bands) for bands in hatched] == [0, 1, 0]


def test_spectra_are_drawn_at_the_lead_times_asked_for(sure_scores, score_file, forecast, figures, tmp_path):
    picture = ("-o", tmp_path / "p.png", "--what", "spectra", "--lead", "1,3")
    assert forecast("plot", sure_scores, *picture).exit_code == 0
    with xr.open_dataset(sure_scores) as scores:
        expected = scores["spectrum"].sel(field="truth", variable="t2m").isel(lead_time=2)
        np.testing.assert_allclose(figures[0].axes[1].lines[0].get_ydata(), expected)
    refused = forecast("plot", score_file, "-o", tmp_path / "q.png", "--what", "spectra")
    assert (refused.exit_code, refused.stderr.count("\n")) == (3, 1)
    assert "--spectra" in refused.stderr


def test_a_run_is_drawn_as_its_losses(series_run, forecast, figures, tmp_path):
    assert forecast("plot", series_run, "-o", tmp_path / "p.png").exit_code == 0
    losses = np.genfromtxt(series_run / "metrics.csv", delimiter=",", names=True)
    np.testing.assert_allclose(figures[0].axes[0].lines[1].get_ydata(), losses["validation_loss"])
    (tmp_path / "config.toml").write_text("")
    assert forecast("plot", tmp_path, "-o", tmp_path / "q.png").exit_code == 4


@pytest.mark.parametrize("truth", [True, False])
def test_a_film_has_a_frame_for_each_lead_time(truth, forecast, forecast_file, series, tmp_path):
    from PIL import Image

    film = tmp_path / "film.gif"
    result = forecast("plot", forecast_file, "-o", film, *(("--truth", series) if truth else ()))
    assert (result.exit_code, result.stderr) == (0, f"{film}: written\n")
    with Image.open(film) as image:
        assert image.n_frames == 3
        first = np.asarray(image.convert("RGB"))
        image.seek(2)
        assert (np.asarray(image.convert("RGB")) != first).any()


def test_a_film_as_mp4_says_what_it_needs(forecast, series, tmp_path, monkeypatch):
    from forecast_cli.plots import maps

    monkeypatch.setattr(maps.FFMpegWriter, "isAvailable", lambda: False)
    result = forecast("plot", series, "-o", tmp_path / "film.mp4")
    assert (result.exit_code, result.stderr.count("\n")) == (7, 1)
    assert "ffmpeg" in result.stderr


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (("--what", "scores"), "can be drawn fields or animation"),
        (("--truth", "x.nc"), "is no forecast"),
        (("--rate", "0"), "at least 1"),
    ],
)
def test_a_picture_that_does_not_suit_the_file_is_refused(forecast, series, tmp_path, what, message):
    result = forecast("plot", series, "-o", tmp_path / "p.png", *what)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr


def test_one_odd_cell_does_not_take_the_colours_from_all_others(forecast, figures, tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 40, 50))
    values[0, 3, 3], values[1, 5, 5] = 1e6, np.nan
    xr.Dataset({"u": (("time", "y", "x"), values)}, {"time": [0.0, 1.0]}).to_netcdf(tmp_path / "odd.nc")
    assert forecast("plot", tmp_path / "odd.nc", "-o", tmp_path / "p.png").exit_code == 0
    mesh = figures[0].axes[0].collections[0]
    assert 2 < mesh.get_clim()[1] < 5
    assert mesh.get_clim()[0] == -mesh.get_clim()[1]


def test_coastlines_on_disk_are_drawn_where_the_file_counts_its_longitudes(monkeypatch):
    from forecast_cli.plots import coastlines

    coast = (np.array([-10.0, 0.0, 5.0]), np.array([50.0, 55.0, 58.0]))
    monkeypatch.setattr(coastlines, "_lines", lambda _: [coast])
    (eastern,) = coastlines.coastlines((340.0, 370.0), (45.0, 60.0))
    assert eastern[0].tolist() == [350.0, 360.0, 365.0]
    assert list(coastlines.coastlines((100.0, 120.0), (45.0, 60.0))) == []
    assert list(coastlines.coastlines((-20.0, 10.0), (10.0, 20.0))) == []


@pytest.mark.parametrize("backend", ["nonsense", "module://matplotlib_inline.backend_inline", "TkAgg"])
def test_a_foreign_backend_and_matplotlibrc_change_no_picture(backend, series, tmp_path):
    """A process of its own, since matplotlib reads both when it is imported; TeX is not installed everywhere."""
    import os
    import subprocess
    import sys

    plain, foreign = tmp_path / "plain", tmp_path / "foreign"
    for folder, content in ((plain, ""), (foreign, "text.usetex: True\nfont.size: 40\nsavefig.dpi: 20\n")):
        folder.mkdir()
        (folder / "matplotlibrc").write_text(content)
    pictures = []
    for folder, environment in ((plain, {"MPLBACKEND": "Agg"}), (foreign, {"MPLBACKEND": backend})):
        line = [sys.executable, "-m", "forecast_cli", "plot", str(series), "-o", str(folder / "p.png")]
        made = subprocess.run(
            line, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        pictures.append((folder / "p.png").read_bytes())
    assert pictures[0] == pictures[1]
