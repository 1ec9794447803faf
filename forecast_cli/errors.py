"""What can go wrong for a user, each with the exit code that the shell sees.

Raise one of these with a message of one line that says what is wrong, where, and what to do about it.
Anything else that escapes a command is a bug and leaves with exit code 1.
"""

import re
import traceback


def first_line(error: Exception) -> str:
    """What a library says was wrong, fit for a line of our own; the kind of its exception where it says nothing."""
    said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]}..."


def printable(text: str) -> str:
    """One line without control characters: names out of files and shells are in it, and may hold any."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def reason(error: Exception) -> str:
    """The operating system's words for an error, else those of the library."""
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def broken_library(error: BaseException) -> str | None:
    """Name the library whose installation is at fault for an error; None where another thing is, this package included.

    The installation is at fault for an ImportError, for any error while a module is imported, and for a module that lacks an
    attribute.
    """
    lacking = re.match(r"(?:partially initialized )?module '([^']+)' has no attribute", str(error))
    if isinstance(error, AttributeError) and lacking:
        name = lacking[1]
    elif isinstance(error, ImportError) and error.name:
        name = error.name
    else:
        name = _importing(error)
    library = name.partition(".")[0]
    return None if library in ("", "forecast_cli") else library


def _importing(error: BaseException) -> str:
    """The module whose own code the error ended; of an ImportError that of whatever code. Empty where there is none."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [frame for frame in frames if frame.f_code.co_name == "<module>"]
    last = modules or (frames if isinstance(error, ImportError) else [])
    return str(last[-1].f_globals.get("__name__", "")) if last else ""


class ForecastError(Exception):
    """A failure that the user can act on."""

    exit_code = 1


class ConfigError(ForecastError):
    """The command line or the configuration asks for something that does not exist or cannot be."""

    exit_code = 2


class DataError(ForecastError):
    """A file that cannot be read, or whose content does not suit the task."""

    exit_code = 3


class CheckpointError(ForecastError):
    """A run directory that is missing, damaged, or was made by another model or for other data."""

    exit_code = 4


class DivergedError(ForecastError):
    """Training or a forecast left the finite numbers."""

    exit_code = 5


class Untrustworthy(ForecastError):
    """A result that was written, and says itself why it should not be trusted."""

    exit_code = 6


class OutputError(ForecastError):
    """A result that could not be written."""

    exit_code = 7


class PeerError(ForecastError):
    """Another rank of the same job has failed, and has said why."""

    exit_code = 9


class Stopped(ForecastError):
    """Stopped cleanly at a signal or a time limit; the same command with --resume auto goes on."""

    exit_code = 75
