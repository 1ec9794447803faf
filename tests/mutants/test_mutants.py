"""The table of mutants fits the present tree."""

import ast
from pathlib import Path

import mutants.__main__
import pytest
from mutants.record import Mutant, StaleMutantError
from mutants.table import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_applies_and_leaves_valid_python(mutant):
    assert ast.dump(ast.parse(mutant.mutated(ROOT))) != ast.dump(ast.parse((ROOT / mutant.file).read_text()))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_test_of_a_mutant_exists(mutant):
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        names = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert not function or function in names, test


def test_every_mutant_has_a_name_of_its_own():
    names = [mutant.name for mutant in MUTANTS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("text", ["y = 2\n", "x = 1\nx = 1\n"])
def test_a_mutant_whose_text_does_not_stand_exactly_once_is_an_error(text, tmp_path):
    (tmp_path / "a.py").write_text(text)
    mutant = Mutant(name="wrong", file="a.py", before="x = 1", after="x = 2", tests=())
    with pytest.raises(StaleMutantError, match="expected once"):
        mutant.mutated(tmp_path)


TREE = {
    "forecast_cli/__init__.py": "NUMBER = 1\n",
    "tests/test_good.py": "import forecast_cli\n\ndef test_number():\n    assert forecast_cli.NUMBER == 1\n",
    "tests/test_weak.py": "import forecast_cli\n\ndef test_number():\n    assert forecast_cli.NUMBER > 0\n",
    "tests/test_broken.py": "import nothing_of_this_name\n",
    "pyproject.toml": "",
}


@pytest.mark.parametrize(
    ("test", "verdict"), [("good", "killed"), ("weak", "SURVIVED"), ("broken", "NOT RUN"), ("missing", "NOT RUN")]
)
def test_only_a_failed_test_kills_a_mutant(test, verdict, tmp_path, monkeypatch):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(mutants.__main__, "ROOT", tmp_path)
    monkeypatch.setattr(mutants.__main__, "COPIED", ("forecast_cli", "tests", "pyproject.toml"))
    mutant = Mutant(
        name="two", file="forecast_cli/__init__.py", before="1", after="2", tests=(f"tests/test_{test}.py",)
    )
    assert mutants.__main__.outcome(mutant)[0] == verdict
    assert bool(mutants.__main__.unmutated([mutant])) == (verdict == "NOT RUN")
    assert (tmp_path / "forecast_cli/__init__.py").read_text() == "NUMBER = 1\n"
