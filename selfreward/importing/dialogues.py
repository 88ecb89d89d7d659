"""From two dialogues to a preference: what both share is the prompt, what differs must be one reply each."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.importing.reasons import LeftOut
from selfreward.seeds.skips import MAX_TEXT_BYTES
from selfreward.text import fingerprint
from selfreward.types import Preference

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a dialogue."""

    role: str
    text: str


def preference(
    prompt: Sequence[Turn], chosen: Sequence[Turn], rejected: Sequence[Turn]
) -> Preference | LeftOut:
    """The preference that two dialogues make, or why they make none.

    `prompt` is empty where it is implicit: the turns with which chosen and rejected both begin. Where it is
    given and they begin with it all the same, it counts once.
    """
    shared = _shared(chosen, rejected)
    asked = [*prompt] if not shared or shared == [*prompt] else _joined(prompt, shared)
    better, worse = chosen[len(shared) :], rejected[len(shared) :]
    flaw = _prompt_flaw(asked) or _reply_flaw(better) or _reply_flaw(worse)
    return flaw or checked(Preference(prompt=asked[0].text, chosen=better[0].text, rejected=worse[0].text))


def checked(found: Preference) -> Preference | LeftOut:
    """The same, unless its texts cannot be used."""
    texts = (found.prompt, found.chosen, found.rejected)
    if not all(text.strip() for text in texts):
        return LeftOut.EMPTY
    if fingerprint(found.chosen.strip()) == fingerprint(found.rejected.strip()):
        return LeftOut.SAME_TEXT
    return LeftOut.TOO_LARGE if any(len(text.encode()) > MAX_TEXT_BYTES for text in texts) else found


def _shared(chosen: Sequence[Turn], rejected: Sequence[Turn]) -> list[Turn]:
    """The turns with which both begin; the last one of each is always a reply."""
    shared: list[Turn] = []
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared.append(one)
    return shared


def _joined(prompt: Sequence[Turn], shared: list[Turn]) -> list[Turn]:
    """A prompt that is written out beside dialogues that begin with it, perhaps behind a system message."""
    return shared if shared[-len(prompt) :] == [*prompt] else [*prompt, *shared]


def _prompt_flaw(turns: Sequence[Turn]) -> LeftOut | None:
    roles = [turn.role for turn in turns]
    if not roles:
        return LeftOut.NO_PROMPT
    if SYSTEM in roles:
        return LeftOut.SYSTEM_MESSAGE
    return None if roles == [USER] else LeftOut.SEVERAL_TURNS


def _reply_flaw(turns: Sequence[Turn]) -> LeftOut | None:
    if not turns or turns[-1].role != ASSISTANT:
        return LeftOut.NO_REPLY
    return None if len(turns) == 1 else LeftOut.SEVERAL_TURNS
