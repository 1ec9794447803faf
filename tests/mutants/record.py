"""One deliberate fault in the package, and the tests that must notice it."""

from dataclasses import dataclass
from pathlib import Path


class StaleMutantError(Exception):
    """The text of a mutant does not stand exactly once in its file."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A replacement of one piece of text.

    Attributes
    ----------
    name : str
        Words joined by hyphens.
    file : str
        Path below the repository.
    before, after : str
        Text that stands exactly once in the file, and its replacement.
    tests : tuple of str
        Test files, or test functions as FILE::FUNCTION, of which at least one must fail.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    def mutated(self, root: Path) -> str:
        """Return the mutated content of the file below `root`.

        Raises
        ------
        StaleMutantError
            If `before` does not stand exactly once in the file.
        """
        text = (root / self.file).read_text()
        if (count := text.count(self.before)) != 1:
            raise StaleMutantError(
                f"{self.name}: {self.file} contains {self.before!r} {count} times, expected once. "
                "Update the entry in tests/mutants/table.py."
            )
        return text.replace(self.before, self.after)
