"""The format of hh-rlhf (arXiv 2204.05862): `chosen` and `rejected` are whole transcripts.

A transcript is "\\n\\nHuman: …\\n\\nAssistant: …", perhaps with more turns; only the last reply differs.
"""

import re
from collections.abc import Mapping
from typing import Any

from selfreward.importing.dialogues import ASSISTANT, USER, Turn, preference
from selfreward.importing.reasons import LeftOut, NotUnderstood
from selfreward.types import Preference

SPEAKERS = {"Human": USER, "Assistant": ASSISTANT}
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def is_hh(record: Mapping[str, Any]) -> bool:
    """Whether the record has two texts and no prompt beside them."""
    return (isinstance(record.get("chosen"), str) and isinstance(record.get("rejected"), str)) and record.get(
        "prompt"
    ) is None


def from_hh(record: Mapping[str, Any]) -> Preference | LeftOut:
    """The preference of a record, or why it has none. Raises NotUnderstood."""
    if not is_hh(record):
        raise NotUnderstood('"chosen" and "rejected" must be transcripts, with no "prompt" beside them')
    chosen, rejected = (_turns(record[key], key) for key in ("chosen", "rejected"))
    return preference([], chosen, rejected) if chosen and rejected else LeftOut.NO_PROMPT


def _turns(transcript: str, key: str) -> list[Turn]:
    """The turns of a transcript; none where it does not begin with a speaker."""
    try:
        transcript.encode("utf-8")
    except UnicodeEncodeError:
        raise NotUnderstood(f'"{key}" holds half a character (a lone surrogate)') from None
    before, *parts = _SPEAKER.split(transcript.strip())
    if before.strip():
        return []
    speakers, texts = parts[::2], parts[1::2]
    return [Turn(role=SPEAKERS[name], text=text.strip()) for name, text in zip(speakers, texts, strict=True)]
