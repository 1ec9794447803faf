"""A folder in a place of all users that belongs to one of them."""

import os

import pytest

from forecast_cli.private import private_folder


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def _umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_only_its_owner_can_enter_it_whatever_the_umask(tmp_path):
    folder = private_folder(tmp_path / "new" / "place")
    assert folder == tmp_path / "new" / "place" / f"forecast-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_one_that_is_there_is_used_again(tmp_path):
    (private_folder(tmp_path) / "file").write_text("")
    assert [path.name for path in private_folder(tmp_path).iterdir()] == ["file"]


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o702, 0o1777])
def test_one_that_others_can_enter_is_refused(mode, tmp_path):
    private_folder(tmp_path).chmod(mode)
    with pytest.raises(PermissionError, match="instead of 0700"):
        private_folder(tmp_path)


def test_one_of_another_user_is_refused(tmp_path, monkeypatch):
    real = os.getuid()
    private_folder(tmp_path).rename(tmp_path / f"forecast-{real + 1}")
    monkeypatch.setattr(os, "getuid", lambda: real + 1)
    with pytest.raises(PermissionError, match=f"belongs to the user {real}, not to {real + 1}"):
        private_folder(tmp_path)


@pytest.mark.parametrize("target", ["folder", "missing"])
def test_a_link_is_refused_wherever_it_leads(target, tmp_path):
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / f"forecast-{os.getuid()}").symlink_to(tmp_path / target)
    with pytest.raises(NotADirectoryError):
        private_folder(tmp_path)
