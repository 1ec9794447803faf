"""Where a training stands: everything of its state that is neither weights nor optimizer."""

import csv
import io
import math
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counts, sums and the record of an unfinished training, as JSON would hold them."""

    epoch: int = 0
    position: int = 0
    """Steps done in this epoch."""
    losses: list[float] = field(default_factory=lambda: [0.0])
    """Sums of the losses of this epoch's windows, one for each rank: continued as they were, so that not a bit is lost."""
    windows_seen: int = 0
    seconds: float = 0.0
    """Spent on this epoch."""
    best: float = math.inf
    best_epoch: int = 0
    stale_epochs: int = 0
    reductions: int = 0
    """Times that the plateau schedule has cut the learning rate."""
    rows: list[dict[str, float]] = field(default_factory=list)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing is done yet of the epoch."""
        self.epoch, self.position, self.losses, self.windows_seen, self.seconds = epoch, 0, [0.0], 0, 0.0

    def as_csv(self) -> bytes:
        """The table of the epochs so far."""
        text = io.StringIO()
        if self.rows:
            writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return text.getvalue().encode()
