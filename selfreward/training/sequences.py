"""Prompts with responses as padded batches of tokens, and what a model makes of them. Child only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True)
class Tokens:
    """A prompt with one response to it."""

    ids: list[int]
    begin: int
    """Index of the first token of the response."""


def tokenised(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> Tokens:
    """A conversation of two turns. As in TRL, the response begins where it and the bare prompt diverge."""
    turns = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    turns.append({"role": "assistant", "content": response})
    ids = list(tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"])
    differ = (index for index, (one, other) in enumerate(zip(asked, ids, strict=False)) if one != other)
    return Tokens(ids, next(differ, min(len(asked), len(ids))))


def padded(rows: Sequence[Tokens], padding: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `completion_mask`, [rows, longest], padded on the right."""
    ids = [torch.tensor(row.ids) for row in rows]
    present = [torch.ones_like(each) for each in ids]
    responses = [(torch.arange(len(row.ids)) >= row.begin).long() for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=padding),
        "attention_mask": pad_sequence(present, batch_first=True),
        "completion_mask": pad_sequence(responses, batch_first=True),
    }


def score(model: Any, batch: dict[str, Tensor], **options: Any) -> Any:
    """What TRL's fused head tells of a padded batch: `log_probs` [rows, longest - 1], 0 outside responses."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    return model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        labels=labels,
        use_cache=False,
        fused_lm_head=True,
        **options,
    )
