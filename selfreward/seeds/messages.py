"""Puts OpenAssistant's flat table of messages back together: a first turn with its direct replies."""

from collections.abc import Iterable, Iterator
from typing import Any

from selfreward.errors import BadInput
from selfreward.seeds.skips import Skip
from selfreward.seeds.tables import MESSAGE_COLUMNS

Record = dict[str, Any]

_IDS = ("message_id", "message_tree_id")
_OTHER_SHAPES = {"prompt", "instruction"}
_KEPT = tuple(column for column in MESSAGE_COLUMNS if column not in (*_IDS, "parent_id"))


def rebuilt(records: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """`records` as they are, except for messages: these come last, as trees one reply deep.

    Messages may be in any order. A tree stands where its first turn stood; a message deeper in a
    conversation is dropped at once. A reply whose prompt never came is a REPLY_WITHOUT_PROMPT.
    """
    prompts: dict[str, tuple[str, Record]] = {}
    replies: dict[str, dict[str, Record]] = {}
    places: dict[str, str] = {}
    for place, record in records:
        if not _is_message(record):
            yield place, record
            continue
        identity, tree = (_id(record, key, place) for key in _IDS)
        parent = record.get("parent_id")
        kept = {key: record.get(key) for key in _KEPT}
        if parent is None:
            prompts.setdefault(identity, (place, kept))
        elif parent == tree:
            replies.setdefault(tree, {}).setdefault(identity, kept)
            places.setdefault(tree, place)
    for identity, (place, prompt) in prompts.items():
        yield place, {"prompt": {**prompt, "replies": list(replies.pop(identity, {}).values())}}
    for tree, orphans in replies.items():
        yield from ((places[tree], Skip.REPLY_WITHOUT_PROMPT) for _ in orphans)


def _is_message(record: Any) -> bool:
    """An OpenAssistant message by itself. A seed of another shape may carry an id of that name."""
    return isinstance(record, dict) and "message_id" in record and not record.keys() & _OTHER_SHAPES


def _id(record: Record, key: str, place: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise BadInput(
            f'{place}: a message without a "{key}"',
            "A table of messages needs message_id, parent_id, message_tree_id, text, lang and rank.",
        )
    return value
