"""The environments of `make test-environments`, and the random order."""

from itertools import pairwise
from types import SimpleNamespace

import conftest
import environments
import pytest


def test_no_compiler_is_on_the_path_of_programs_without_one(tmp_path, monkeypatch):
    place = tmp_path / "bin"
    place.mkdir()
    compilers = ("cc", "gcc", "gcc-12", "x86_64-linux-gnu-gcc-12", "c99", "clang", "clang-15", "g++", "c++", "tcc")
    for name in (*compilers, "sh", "ccache", "lscpu", "gccgo"):
        (place / name).write_text("")
    monkeypatch.setenv("PATH", f"{place}:{tmp_path / 'missing'}")
    variables = environments.ENVIRONMENTS["compiler"](tmp_path)
    assert {path.name for path in (tmp_path / "programs").iterdir()} == {"sh", "ccache", "lscpu", "gccgo"}
    assert variables["PATH"] == str(tmp_path / "programs")


def test_an_environment_without_a_name_in_the_table_is_refused_with_those_in_it():
    with pytest.raises(SystemExit, match=r"no environment moon; there are plain, aten-default, .*, order"):
        environments.main(["moon"])


@pytest.mark.parametrize("name", environments.ENVIRONMENTS)
def test_each_environment_is_what_its_name_says(name, tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text(
        "import os, shutil, tempfile\n"
        "def test_it():\n"
        "    mask = os.umask(0)\n"
        "    os.umask(mask)\n"
        "    seen = {\n"
        "        'plain': True,\n"
        "        'aten-default': os.environ.get('ATEN_CPU_CAPABILITY') == 'default',\n"
        "        'aten-avx2': os.environ.get('ATEN_CPU_CAPABILITY') == 'avx2',\n"
        "        'onednn-avx2': os.environ.get('ONEDNN_MAX_CPU_ISA') == 'AVX2',\n"
        "        'compiler': not any(map(shutil.which, ('cc', 'gcc', 'clang'))) and 'CC' not in os.environ,\n"
        "        'tmpdir': ' ' in tempfile.gettempdir(),\n"
        "        'home': 'HOME' not in os.environ,\n"
        "        'umask': mask == 0o077,\n"
        "        'order': True,\n"
        "    }\n"
        f"    assert seen[{name!r}]\n"
    )
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(environments, "OPTIONS", {})  # --order is an option of tests/conftest.py
    assert environments.main([name, "--", "-q", str(tmp_path / "test_it.py"), "-c", "/dev/null"]) == 0


def test_a_failure_in_one_environment_is_the_exit_code(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it():\n    assert False\n")
    assert environments.main(["plain", "--", "-q", str(tmp_path / "test_it.py"), "-c", "/dev/null"]) == 1


def shuffled(seed, files="aabbbcc"):
    items = [SimpleNamespace(path=name, number=number) for number, name in enumerate(files)]
    conftest.pytest_collection_modifyitems(SimpleNamespace(getoption=lambda _: seed), items)
    return [item.number for item in items]


def test_an_order_shuffles_files_and_tests_the_same_way_each_time_and_keeps_files_together():
    assert shuffled(None) == list(range(7))
    orders = {tuple(shuffled(seed)) for seed in range(50)}
    assert len(orders) > 20
    for order in orders:
        assert sorted(order) == list(range(7))
        names = ["aabbbcc"[number] for number in order]
        assert sum(first != second for first, second in pairwise(names)) == 2
    assert shuffled(3) == shuffled(3)
