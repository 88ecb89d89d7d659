"""Preference pairs of a job as TRL reads them, those that fit whole. Runs in the child only."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import DpoJob, RewardJob
from selfreward.training.origin import read_rows
from selfreward.training.trainer import token_count

SIDES = ("chosen", "rejected", "reference")


def conversation(row: dict[str, Any]) -> dict[str, Any]:
    """A pair in TRL's conversational format, with its reference if it has one."""
    sides = [name for name in SIDES if row.get(name) is not None]
    prompt = {"prompt": [{"role": "user", "content": row["prompt"]}]}
    return prompt | {side: [{"role": "assistant", "content": row[side]}] for side in sides}


def fitting_pairs(
    job: DpoJob | RewardJob, tokenizer: PreTrainedTokenizerBase, limit: int, events: EventWriter
) -> list[dict[str, Any]]:
    """The pairs that fit into `limit` tokens. The others are reported, never cut.

    Raises JobFailed when fewer than needed are left.
    """
    pairs = list(read_rows(job.pairs))
    too_long = {pair["pair_id"] for pair in pairs if _longest_side(tokenizer, conversation(pair)) > limit}
    if too_long:
        events.emit("too_long", pair_ids=sorted(too_long))
    fitting = [pair for pair in pairs if pair["pair_id"] not in too_long]
    if len(fitting) < job.needed:
        raise JobFailed(
            "too_few_pairs",
            f"{len(fitting)} pairs can be trained on, of {len(pairs)} drawn; {len(too_long)} are longer than "
            f"{limit} tokens; train.min_pairs is {job.needed}",
            "Raise self_instruct.target or sample.candidates for more pairs, or lower train.min_pairs.",
        )
    return fitting


def _longest_side(tokenizer: PreTrainedTokenizerBase, pair: dict[str, Any]) -> int:
    """Tokens of the longest side, prompt and template included."""
    sides = (name for name in SIDES if name in pair)
    return max(token_count(tokenizer, pair["prompt"] + pair[side]) for side in sides)
