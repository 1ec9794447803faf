"""The documentation names what there is."""

import re
from pathlib import Path

import pytest

from forecast_cli.config import RunConfig, presets
from forecast_cli.metrics import METRICS
from forecast_cli.models import MODELS
from forecast_cli.models.activations import ACTIVATIONS
from forecast_cli.scan import BACKENDS

ROOT = Path(__file__).parents[1]
KEYS = [(section, key) for section, field in RunConfig.model_fields.items() for key in type(field.default).model_fields]


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_of_the_configuration_is_documented(section, key):
    assert f"`{key}`" in (ROOT / "docs/configuration.md").read_text(), section


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("models.md", [*MODELS, *BACKENDS]),
        ("configuration.md", presets()),
        ("data_format.md", METRICS),
        ("activations.md", ACTIVATIONS),
    ],
)
def test_every_name_on_the_command_line_is_documented(page, names):
    text = (ROOT / "docs" / page).read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "sample_data/README.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"`[^`]*`", "", page.read_text())):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
