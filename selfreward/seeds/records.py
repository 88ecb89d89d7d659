"""Turns a record into seeds. What shape it is of, its keys tell: SHAPES_HINT has them all."""

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

from selfreward.seeds.skips import MAX_TEXT_BYTES, Skip
from selfreward.seeds.splits import split_of
from selfreward.text import restore
from selfreward.types import RankedReply, Seed, Split

Record = dict[str, Any]

SHAPES_HINT = (
    'A record is one of: {"instruction": …, "answer": …}; '
    '{"prompt": …, "split": …, "replies": [{"text": …, "rank": …, "score": …, "justification": …}]}; '
    'a Self-Instruct task {"instruction": …, "instances": [{"input": …, "output": …}]}; '
    'an OpenAssistant tree {"prompt": {"text": …, "lang": …, "replies": […]}}; '
    "what `selfreward export sft` writes. docs/seeds.md has examples."
)

_METADATA = frozenset({"id", "name", "source", "category", "is_classification"})
"""Keys of a record that hold no part of its text. Any other key might, so it is not ignored."""
EXPORTED = frozenset(
    {"source", "score", "example_id", "candidate_id", "prompt_id", "run", "iteration", "written_by"}
)
"""What `selfreward export sft` says of an example beside its prompt and completion."""


class UnknownShape(Exception):
    """A record that is JSON but not a seed; the message says what is wrong with it."""


def seeds_of(record: Any, origin: str, held_out: float) -> Iterator[Seed | Skip]:
    """The seeds of one record, and a Skip for each thing that is left out of them.

    `held_out` is the share of ranked seeds to measure by, where the record does not say.
    Raises UnknownShape where the record is of no known shape, or not as its shape demands.
    """
    if not isinstance(record, dict):
        raise UnknownShape(f"expected a JSON object, found {type(record).__name__}")
    if isinstance(record.get("prompt"), dict):
        yield from _tree(record["prompt"], origin, held_out)
    elif "completion" in record and isinstance(record.get("prompt"), list):
        yield _conversation(record, origin)
    elif "prompt" in record:
        yield _ranked(record, origin, held_out)
    elif "instances" in record:
        yield from _task(record, origin)
    elif "instruction" in record:
        yield _plain(record, origin)
    else:
        raise UnknownShape(f"not a seed: an object with the keys {_listed(record)}")


def _plain(record: Record, origin: str) -> Seed | Skip:
    _refuse_other_keys(record, {"instruction", "answer"})
    return _seed(_text(record, "instruction"), _optional_text(record, "answer"), origin)


def _conversation(record: Record, origin: str) -> Seed | Skip:
    """Prompt and completion as TRL has them and `selfreward export sft` writes them, one turn each."""
    _refuse_other_keys(record, EXPORTED | {"prompt", "completion"})
    instruction, answer = _turn(record, "prompt", "user"), _turn(record, "completion", "assistant")
    return Skip.NO_INSTRUCTION if record.get("source") == "eft" else _seed(instruction, answer, origin)


def _turn(record: Record, key: str, role: str) -> str:
    turns = _objects(record, key)
    if len(turns) != 1 or turns[0].get("role") != role:
        raise UnknownShape(f'"{key}" must be one turn of the {role}: a seed is no longer conversation')
    return restore(_text(turns[0], "content"))  # an export holds texts as the database does


def _task(record: Record, origin: str) -> Iterator[Seed | Skip]:
    """A Self-Instruct task (arXiv 2212.10560): one seed an instance, its input below the instruction."""
    instruction = _text(record, "instruction")
    if not record["instances"]:
        yield Skip.NO_INSTANCE
    for instance in _objects(record, "instances"):
        parts = (instruction, _text(instance, "input"))
        yield _seed("\n\n".join(filter(None, parts)), _text(instance, "output"), origin)


def _seed(instruction: str, answer: str | None, origin: str) -> Seed | Skip:
    if not instruction:
        return Skip.EMPTY
    if _large(instruction, answer):
        return Skip.TOO_LARGE
    return Seed(instruction=instruction, answer=answer or None, origin=origin)


def _ranked(record: Record, origin: str, held_out: float) -> Seed | Skip:
    """Our own form. People write it for this program, so whatever is odd about it is an error."""
    _refuse_other_keys(record, {"prompt", "split", "replies"})
    instruction = _text(record, "prompt")
    replies = _by_rank(
        _ranked_reply(reply, number) for number, reply in enumerate(_objects(record, "replies"), start=1)
    )
    if _order_flaw(replies):
        raise UnknownShape('"replies" must be two or more, of at least two different ranks')
    split = _split(record) or split_of(instruction, held_out)
    if not instruction:
        return Skip.EMPTY
    if _large(instruction, *(text for reply in replies for text in (reply.text, reply.justification))):
        return Skip.TOO_LARGE
    return Seed(instruction=instruction, answer=_best(replies), origin=origin, split=split, replies=replies)


def _ranked_reply(reply: Record, number: int) -> RankedReply:
    try:
        _refuse_other_keys(reply, {"text", "rank", "score", "justification"})
        text, rank = _text(reply, "text"), reply.get("rank")
        if not text:
            raise UnknownShape('"text" is empty')
        if type(rank) is not int or rank < 0:  # a bool is no rank, though Python calls it an int
            raise UnknownShape(f'"rank" must be a whole number, 0 for the best, found {_shown(rank)}')
        justification = _optional_text(reply, "justification")
        return RankedReply(text=text, rank=rank, score=_score(reply), justification=justification)
    except UnknownShape as error:
        raise UnknownShape(f"reply {number}: {error}") from None


def _score(reply: Record) -> float | None:
    score = reply.get("score")
    if score is None:
        return None
    if type(score) not in (int, float) or not 0 <= score <= 5:
        raise UnknownShape(f'"score" must be a number from 0 to 5, found {_shown(score)}')
    return float(score)


def _split(record: Record) -> Split | None:
    value = record.get("split")
    if value is None:
        return None
    try:
        return Split(value)
    except ValueError:
        known = " or ".join(f'"{split}"' for split in Split)
        raise UnknownShape(f'"split" must be {known}, found {_shown(value)}') from None


def _tree(prompt: Record, origin: str, held_out: float) -> Iterator[Seed | Skip]:
    """An OpenAssistant tree: its first turn, all usable direct replies, and the best one as the answer."""
    instruction = _text(prompt, "text")
    messages = _objects(prompt, "replies")
    flaw = _flaw(prompt, instruction)
    if flaw:
        yield flaw
        return
    results = [_tree_reply(message) for message in messages]
    yield from (result for result in results if isinstance(result, Skip))
    replies = _by_rank(result for result in results if isinstance(result, RankedReply))
    answer, order_flaw = _best(replies), _order_flaw(replies)
    if answer is None and order_flaw:
        yield Skip.NO_RANKED_REPLY
    elif order_flaw:
        yield order_flaw
        yield Seed(instruction=instruction, answer=answer, origin=origin)
    else:
        split = split_of(instruction, held_out)
        yield Seed(instruction=instruction, answer=answer, origin=origin, split=split, replies=replies)


def _tree_reply(message: Record) -> RankedReply | Skip:
    text = _text(message, "text")
    flaw = _flaw(message, text)
    if flaw:
        return Skip(f"reply_{flaw}")
    rank = message.get("rank")
    if isinstance(rank, float) and rank.is_integer():  # tables with gaps in a column turn it to floats
        rank = int(rank)
    return RankedReply(text=text, rank=rank) if type(rank) is int and rank >= 0 else Skip.REPLY_UNRANKED


def _flaw(message: Record, text: str) -> Skip | None:
    """What rules out a message of a tree; a review that never took place does not."""
    flaws = (
        (Skip.NOT_ENGLISH, _text(message, "lang") != "en"),
        (Skip.DELETED, message.get("deleted")),
        (Skip.SYNTHETIC, message.get("synthetic")),
        (Skip.FAILED_REVIEW, message.get("review_result") is False),
        (Skip.EMPTY, not text),
        (Skip.TOO_LARGE, _large(text)),
    )
    return next((skip for skip, holds in flaws if holds), None)


def _by_rank(replies: Iterable[RankedReply]) -> tuple[RankedReply, ...]:
    return tuple(sorted(replies, key=lambda reply: reply.rank))


def _best(replies: Sequence[RankedReply]) -> str | None:
    """The reply at rank 0. Where that one is unusable, the best of the rest is not taken for it."""
    return replies[0].text if replies and replies[0].rank == 0 else None


def _order_flaw(replies: Sequence[RankedReply]) -> Skip | None:
    if len(replies) < 2:
        return Skip.RANKS_MISSING
    return Skip.RANKS_EQUAL if len({reply.rank for reply in replies}) < 2 else None


def _large(*texts: str | None) -> bool:
    return any(text and len(text.encode()) > MAX_TEXT_BYTES for text in texts)


def _text(record: Record, key: str) -> str:
    """A string field, stripped. A lone surrogate (a cut emoji) is refused: no tokeniser takes it."""
    value = record.get(key)
    if not isinstance(value, str):
        raise UnknownShape(f'"{key}" must be a string, found {type(value).__name__}')
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise UnknownShape(f'"{key}" holds half a character (a lone surrogate)') from None
    return value.strip()


def _optional_text(record: Record, key: str) -> str | None:
    return None if record.get(key) is None else _text(record, key) or None


def _objects(record: Record, key: str) -> list[Record]:
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UnknownShape(f'"{key}" must be a list of objects')
    return value


def _refuse_other_keys(record: Record, known: Set[str]) -> None:
    unknown = record.keys() - _METADATA - known
    if unknown:
        raise UnknownShape(f"keys that it should not have: {_listed(unknown)}")


def _listed(keys: Iterable[str]) -> str:
    """The first keys, quoted; a broken record may have thousands."""
    return ", ".join(repr(key) for key in sorted(keys)[:8]) or "none"


def _shown(value: object) -> str:
    return repr(value)[:40]
