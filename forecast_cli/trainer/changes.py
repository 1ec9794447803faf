"""What differs between a training that was begun and one that is to go on with it."""

from collections.abc import Mapping
from typing import Any

from forecast_cli import checkpoint
from forecast_cli.distributed import Ranks
from forecast_cli.planning import Prepared


def changed(state: Mapping[str, Any], prepared: Prepared, ranks: Ranks) -> list[str]:
    """'name: before -> now' for every option, number of ranks and trait of the data that is not that of a training state."""
    changes = checkpoint.changed_keys(state["config"], prepared.config)
    told: list[tuple[str, Any, Any]] = [("ranks", state["ranks"], ranks.size)]
    told += [(trait, state["data"].get(trait), now) for trait, now in prepared.identity.items()]
    changes += [f"{name}: {before} -> {now}" for name, before, now in told if before != now]
    fields = prepared.model.domain.to_json()
    if other := [key for key, value in fields.items() if state["domain"].get(key) != value]:
        changes.append(f"{', '.join(other)} of the fields")
    return changes
