"""Folders that other users of the machine can neither enter nor lock."""

import errno
import os
import stat
from pathlib import Path


def private_folder(parent: Path) -> Path:
    """Return the folder `forecast-UID` in `parent`, which may be a folder that everybody writes to, such as /tmp.

    Parameters
    ----------
    parent : Path
        Is created where it does not exist.

    Returns
    -------
    Path
        A folder of mode 0700 that the user of this process owns.

    Raises
    ------
    OSError
        Where it cannot be created, or where its name belongs to a link, to another user, or to a folder that others can enter.
    """
    folder = parent / f"forecast-{os.getuid()}"
    parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError:
        if not os.path.lexists(folder):
            raise
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{folder.name} is no folder")
    if status.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, f"{folder.name} belongs to the user {status.st_uid}, not to {os.getuid()}")
    if status.st_mode & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise PermissionError(errno.EPERM, f"{folder.name} has the mode {mode} instead of 0700: others can enter it")
    return folder
