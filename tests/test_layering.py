"""Who may import whom: DESIGN.md's table, checked on the syntax trees."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "forecast_cli"
EVERYBODY = {"errors", "config", "domain", "units", "__version__"}
ALLOWED = {
    "errors": set(),
    "config": {"errors"},
    "domain": set(),
    "units": set(),
    "devices": EVERYBODY,
    "scan": EVERYBODY | {"native"},
    "physics": EVERYBODY,
    "data": EVERYBODY | {"private"},
    "native": {"private"},
    "private": set(),
    "equations": EVERYBODY | {"physics", "native"},
    "models": EVERYBODY | {"scan", "equations", "physics", "native"},
    "checkpoint": EVERYBODY | {"models", "data"},
    "objective": EVERYBODY | {"models", "data"},
    "plan_warnings": EVERYBODY | {"models", "data"},
    "planning": EVERYBODY | {"models", "data", "checkpoint", "objective", "plan_warnings"},
    "closures": EVERYBODY | {"models", "data", "planning"},
    "activity": EVERYBODY | {"models", "data", "planning", "checkpoint", "devices"},
    "trainer": EVERYBODY
    | {
        "models",
        "data",
        "checkpoint",
        "objective",
        "planning",
        "plan_warnings",
        "closures",
        "signals",
        "devices",
        "distributed",
        "logs",
    },
    "rollout": EVERYBODY | {"models", "data", "checkpoint", "distributed"},
    "signals": {"errors"},
    "launch": {"errors"},
    "logs": {"errors"},
    "distributed": {"errors", "launch"},
    "inversion": EVERYBODY | {"models", "data", "checkpoint", "equations", "physics"},
    "simulate": EVERYBODY | {"equations", "physics", "data"},
    "benchmark": {path.name.removesuffix(".py") for path in PACKAGE.iterdir()} | EVERYBODY - {"cli"},
    "metrics": EVERYBODY | {"data"},
    "evaluation": EVERYBODY | {"data", "metrics"},
    "plots": EVERYBODY | {"data", "evaluation", "metrics"},
}
# What may not even be imported indirectly, for speed of start or freedom of torch.
WITHOUT_TORCH = ["metrics", "evaluation", "plots", "config", "domain", "errors"]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def own_imports(path: Path) -> set[str]:
    """Rooms of this package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("forecast_cli.")}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "forecast_cli":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("forecast_cli."):
                found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_the_rooms_below_it(path):
    if room(path) in ("cli", "__main__"):
        return
    assert own_imports(path) - {room(path)} <= ALLOWED[room(path)]


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_commands_import_nothing_heavy_before_they_run(path):
    """At module level only typer, the standard library, errors, and other shells."""
    tree = ast.parse(path.read_text())
    light = {"typer", "forecast_cli"}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            assert parts[0] in light or parts[0] in STANDARD, node.module
            assert parts[0] != "forecast_cli" or parts[1:2] in ([], ["cli"], ["errors"], ["launch"], ["signals"]), (
                node.module
            )
        elif isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= light | STANDARD


STANDARD = {
    "dataclasses",
    "errno",
    "functools",
    "inspect",
    "io",
    "json",
    "math",
    "os",
    "re",
    "select",
    "sys",
    "time",
    "collections",
    "contextlib",
    "pathlib",
    "typing",
}


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_scores_and_plots_know_no_torch(name):
    """Followed through everything of ours that the module imports."""
    seen, todo = set(), [path for path in modules() if room(path) == name]
    while todo:
        path = todo.pop()
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(imported.split(".")[0] == "torch" for imported in names), path
            for imported in names:
                if imported.startswith("forecast_cli."):
                    stem = PACKAGE.joinpath(*imported.split(".")[1:])
                    file = stem.with_suffix(".py") if stem.with_suffix(".py").exists() else stem / "__init__.py"
                    if file not in seen:
                        todo.append(file)
