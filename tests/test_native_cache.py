"""A library of the cache that is broken, slow to come, wanted by many at once, or put there by another user, is no harm."""

import fcntl
import os
import pwd
import subprocess
import sys
import threading

import pytest

from forecast_cli import native

CODE = "int twice(int n) { return 2 * n; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("FORECAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORECAST_NATIVE", raising=False)
    monkeypatch.setattr(native.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    native._own_folder.cache_clear()  # whatever ran before
    (tmp_path / "code.c").write_text(CODE)
    native._loaded.cache_clear()
    if native.load(tmp_path / "code.c") is None:
        pytest.skip("no C compiler")
    native._loaded.cache_clear()
    yield tmp_path / "code.c"
    native._loaded.cache_clear()
    native._own_folder.cache_clear()


def test_a_broken_library_is_compiled_anew_elsewhere(source, tmp_path):
    """As a full disk leaves it."""
    library = next((tmp_path / "cache").rglob("*.so"))
    library.unlink()  # a library that is loaded must not be written to
    library.write_bytes(b"\x7fELF")
    assert native.load(source).twice(4) == 8


def test_no_folder_of_the_process_is_made_where_the_cache_serves(source, tmp_path):
    assert native.load(source).twice(4) == 8
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_any_folder_to_write_to_there_is_none(source, tmp_path, monkeypatch):
    """And no traceback: torch does it then."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORECAST_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(native.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    assert native.load(source) is None


def test_a_compiler_that_hangs_is_given_up(source, monkeypatch):
    source.write_text(CODE.replace("twice", "thrice"))

    def run(*arguments, **_):
        raise subprocess.TimeoutExpired(arguments, 120)

    monkeypatch.setattr(native.subprocess, "run", run)
    assert native.load(source) is None


def test_other_flags_are_another_library(source, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DOTHER"))
    assert native.load(source).twice(4) == 8
    assert len(list((tmp_path / "cache").rglob("*.so"))) == 2


def test_processes_that_want_it_at_once_all_get_it(source, tmp_path, monkeypatch):
    """And leave one library, whole, that one of them has compiled: two calls of the compiler."""
    calls, compiler = tmp_path / "calls", tmp_path / "bin" / "logging-cc"
    compiler.parent.mkdir()
    compiler.write_text(f'#!/bin/sh\necho >> "{calls}"\nsleep 0.5\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    for library in (tmp_path / "cache").rglob("*.so"):
        library.unlink()
    code = (
        "import sys, pathlib; from forecast_cli import native; print(native.load(pathlib.Path(sys.argv[1])).twice(21))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(source)], stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["42\n"] * 3
    assert [file.suffix for file in (tmp_path / "cache").rglob("*") if file.is_file()] == [".so"]
    assert calls.read_text().count("\n") == 2


def test_a_temporary_folder_that_others_may_write_to_is_not_trusted(source, tmp_path, monkeypatch):
    """Its name can be guessed; whoever makes it first could put any code there for others to run."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORECAST_CACHE", str(tmp_path / "file" / "cache"))
    folder = tmp_path / "temporary" / f"forecast-{os.getuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    mine = next((tmp_path / "cache").rglob("*.so"))
    foreign = tmp_path / "foreign.c"
    foreign.write_text(CODE.replace("2 * n", "666"))
    native._compile(native._compiler(), native.FLAGS, foreign, folder / mine.name)
    library = native.load(source)
    assert library is None or library.twice(4) == 8


def folder_of(cache):
    return cache / f"forecast-{os.getuid()}"


def planted(tmp_path):
    """A library under the name of the right one, which returns another number, in a cache that everybody may write to."""
    library = next((tmp_path / "cache").rglob("*.so"))
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    foreign = tmp_path / "foreign.c"
    foreign.write_text(CODE.replace("2 * n", "666"))
    for folder in (shared, folder_of(shared)):
        folder.mkdir(exist_ok=True)
        native._compile(native._compiler(), native.FLAGS, foreign, folder / library.name)
    return shared


def test_a_library_that_lies_in_a_folder_of_all_users_is_not_loaded(source, tmp_path, monkeypatch):
    """It is compiled in a folder of one's own there, of mode 0700."""
    shared = planted(tmp_path)
    next(folder_of(shared).iterdir()).unlink()
    folder_of(shared).rmdir()
    monkeypatch.setenv("FORECAST_CACHE", str(shared))
    assert native.load(source).twice(4) == 8
    assert folder_of(shared).stat().st_mode & 0o777 == 0o700
    assert len(list(folder_of(shared).glob("*.so"))) == 1


@pytest.mark.parametrize("fault", ["mode", "owner", "link"])
def test_a_folder_that_another_user_has_prepared_is_not_loaded_from(fault, source, tmp_path, monkeypatch):
    shared = planted(tmp_path)
    folder = folder_of(shared)
    folder.chmod(0o777 if fault == "mode" else 0o700)
    if fault == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    if fault == "owner":
        real = os.getuid()
        folder.rename(shared / f"forecast-{real + 1}")
        monkeypatch.setattr(os, "getuid", lambda: real + 1)
    monkeypatch.setenv("FORECAST_CACHE", str(shared))
    assert native.load(source).twice(4) == 8
    assert list((tmp_path / "temporary").rglob("*.so"))


def test_the_lock_of_another_user_on_the_cache_delays_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DOTHER"))
    descriptor = os.open(tmp_path / "cache", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        loading = threading.Thread(target=native.load, args=(source,), daemon=True)
        loading.start()
        loading.join(60)
        assert not loading.is_alive()
    finally:
        os.close(descriptor)


def test_a_machine_without_a_compiler_loads_what_another_has_compiled(source, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert native.load(source).twice(4) == 8
    assert not list((tmp_path / "temporary").iterdir())
    native._loaded.cache_clear()
    source.write_text(CODE.replace("2 * n", "3 * n"))
    assert native.load(source) is None


def test_without_a_home_the_library_lies_in_a_temporary_folder(source, tmp_path, monkeypatch):
    """As a container has it that runs under a number that no user has."""

    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "FORECAST_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert native.load(source).twice(4) == 8
    assert list((tmp_path / "temporary").rglob("*.so"))
