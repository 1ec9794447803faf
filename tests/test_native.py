"""C is compiled once, for this machine, and nothing breaks where it cannot be."""

import ctypes
import subprocess

import pytest

from forecast_cli import native

CODE = "int twice(int n) { return 2 * n; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("FORECAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORECAST_NATIVE", raising=False)
    native._loaded.cache_clear()
    (tmp_path / "code.c").write_text(CODE)
    yield tmp_path / "code.c"
    native._loaded.cache_clear()


def loaded(source):
    library = native.load(source)
    if library is None:
        pytest.skip("no C compiler")
    return library


def test_a_library_does_what_its_source_says(source):
    assert isinstance(loaded(source), ctypes.CDLL)
    assert loaded(source).twice(21) == 42


def test_a_library_is_compiled_once(source, monkeypatch):
    loaded(source)
    native._loaded.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert native.load(source).twice(2) == 4


def test_another_source_is_another_library(source):
    loaded(source)
    native._loaded.cache_clear()
    source.write_text(CODE.replace("2 * n", "3 * n"))
    assert native.load(source).twice(2) == 6


def test_no_library_where_it_is_not_wanted(source, monkeypatch):
    monkeypatch.setenv("FORECAST_NATIVE", "0")
    assert native.load(source) is None


def test_no_library_without_a_compiler(source, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert native.load(source) is None


@pytest.mark.parametrize("words", ["{cc} -DTIMES=3", "env {cc} -DTIMES=3", "{cc} '-DTIMES=1 + 2'"])
def test_a_compiler_may_have_arguments(words, source, monkeypatch):
    """As conda, Spack and ccache set CC."""
    loaded(source)
    native._loaded.cache_clear()
    monkeypatch.setenv("CC", words.format(cc=" ".join(native._compiler())))
    source.write_text(CODE.replace("2 *", "(TIMES) *"))
    assert native.load(source).twice(7) == 21


def test_a_compiler_may_lie_in_a_folder_with_spaces(source, tmp_path, monkeypatch):
    loaded(source)
    native._loaded.cache_clear()
    script = tmp_path / "a folder" / "cc"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {" ".join(native._compiler())} -DTIMES=3 "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    source.write_text(CODE.replace("2 *", "TIMES *"))
    assert native.load(source).twice(7) == 21


def test_a_standard_among_the_arguments_of_the_compiler_does_not_replace_the_own(source, monkeypatch):
    loaded(source)
    native._loaded.cache_clear()
    monkeypatch.setenv("CC", f"{' '.join(native._compiler())} -std=gnu89")
    source.write_text("int twice(int n) { for (int i = 0; i < 1; i++) n *= 2; return n; }  // C99\n")
    assert native.load(source).twice(7) == 14


@pytest.mark.parametrize("words", ["no-such-compiler", "cc 'unclosed", "false"])
def test_a_message_names_the_compiler_that_does_not_work(words, source, monkeypatch):
    monkeypatch.setenv("CC", words)
    assert native.load(source) is None
    assert f"(CC is '{words}')" in native.why_unavailable()


def test_a_message_says_that_the_loops_are_switched_off(monkeypatch):
    monkeypatch.setenv("FORECAST_NATIVE", "0")
    assert native.why_unavailable() == "FORECAST_NATIVE is 0"


def test_code_that_does_not_compile_is_no_library_and_leaves_nothing(source, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(native, "_own_folder", lambda: tmp_path / "temporary")
    source.write_text("not C")
    assert native.load(source) is None
    assert not [file for folder in ("cache", "temporary") for file in (tmp_path / folder).rglob("*") if file.is_file()]


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORECAST_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(native, "_own_folder", lambda: tmp_path / "temporary")
    assert loaded(source).twice(3) == 6
    assert list((tmp_path / "temporary").rglob("*.so"))
