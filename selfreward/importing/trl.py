"""TRL's preference format, and what `selfreward export pairs` writes in it.

A record has `chosen` and `rejected`, and `prompt` unless both begin with it; each is a text or a list of
turns {"role", "content"}. Scores (`chosen_score`, or `score_chosen` as UltraFeedback has it) and
`soft_label` are kept, and `reference`, a good answer to the prompt; any other column is passed over. See
TRL's docs, "Dataset formats".
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from selfreward.importing.dialogues import ASSISTANT, SYSTEM, USER, Turn, preference
from selfreward.importing.reasons import LeftOut, NotUnderstood
from selfreward.text import restore
from selfreward.types import Preference

ROLES = (SYSTEM, USER, ASSISTANT)
OURS = frozenset({"pair_id", "chosen_id", "rejected_id", "written_by"})
"""Columns that only our own export has: its texts are as the database holds them."""


def is_trl(record: Mapping[str, Any]) -> bool:
    """Whether the record has two dialogues, or two replies to a prompt."""
    if not {"chosen", "rejected"} <= record.keys():
        return False
    return "prompt" in record or not isinstance(record["chosen"], str)


def from_trl(record: Mapping[str, Any]) -> Preference | LeftOut:
    """The preference of a record, or why it has none. Raises NotUnderstood."""
    if record.get("excluded") is not None and record.keys() >= OURS:
        return LeftOut.EXCLUDED
    turns = {key: _turns(record, key, role) for key, role in _ROLE_OF.items()}
    found = preference(turns["prompt"], turns["chosen"], turns["rejected"])
    if isinstance(found, LeftOut):
        return found
    found = _restored(found) if record.keys() >= OURS else found
    return replace(
        found,
        chosen_score=_number(record, "chosen_score", "score_chosen"),
        rejected_score=_number(record, "rejected_score", "score_rejected"),
        soft_label=_probability(record),
        reference=_reference(record),
    )


_ROLE_OF = {"prompt": USER, "chosen": ASSISTANT, "rejected": ASSISTANT}
"""Whose turn a bare text is."""


def _turns(record: Mapping[str, Any], key: str, role: str) -> list[Turn]:
    value = record.get(key)
    if value is None and key == "prompt":
        return []
    if isinstance(value, str):
        return [Turn(role=role, text=_sound(value, key))]
    if not isinstance(value, list) or not value:
        raise NotUnderstood(f'"{key}" must be a text or a list of turns, found {_shown(value)}')
    return [_turn(turn, key) for turn in value]


def _turn(turn: Any, key: str) -> Turn:
    role = turn.get("role") if isinstance(turn, dict) else None
    text = turn.get("content") if isinstance(turn, dict) else None
    if role not in ROLES or not isinstance(text, str):
        known = ", ".join(ROLES)
        raise NotUnderstood(
            f'"{key}": a turn is {{"role": one of {known}, "content": a text}}, found {_shown(turn)}'
        )
    return Turn(role=role, text=_sound(text, key))


def _sound(text: str, key: str) -> str:
    """The text. A lone surrogate (half of a cut emoji) is refused: no tokeniser takes it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotUnderstood(f'"{key}" holds half a character (a lone surrogate)') from None
    return text


def _restored(found: Preference) -> Preference:
    """As they were before the database marked what it cannot hold; storing them marks it again."""
    prompt, chosen, rejected = map(restore, (found.prompt, found.chosen, found.rejected))
    return replace(found, prompt=prompt, chosen=chosen, rejected=rejected)


def _number(record: Mapping[str, Any], *names: str) -> float | None:
    """The first of these columns that holds anything."""
    for name in names:
        value = record.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise NotUnderstood(f'"{name}" must be a number, found {_shown(value)}')
        return float(value)
    return None


def _probability(record: Mapping[str, Any]) -> float | None:
    value = _number(record, "soft_label")
    if value is not None and not 0 <= value <= 1:
        raise NotUnderstood(f'"soft_label" must be a probability from 0 to 1, found {value:g}')
    return value


def _reference(record: Mapping[str, Any]) -> str | None:
    value = record.get("reference")
    if value is not None and not isinstance(value, str):
        raise NotUnderstood(f'"reference" must be a text, found {_shown(value)}')
    return _sound(value, "reference") if value and value.strip() else None


def _shown(value: object) -> str:
    return repr(value)[:60]
