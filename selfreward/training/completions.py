"""SFT batches and their loss for a CPU: no work on tokens that nobody asked about. Runs in the child only.

The examples of one judge's rubric begin alike, with hundreds of tokens, and end in a short reply. TRL
runs every row from its first token and scores every position against the whole vocabulary. Here what
the rows of a micro-batch have in common is run once, through the cache that generation uses, and only
the positions of completions are scored. The loss and its gradient are the same.
"""

import inspect
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

IGNORED = -100
HEAD = 64
"""Rows that agree in as many tokens belong to one rubric."""


def supports_shared_prefix(model: PreTrainedModel) -> bool:
    """Whether each layer keeps the keys and values of all tokens, and the model takes what is needed here."""
    accepted = inspect.signature(type(model).forward).parameters
    if not {"past_key_values", "position_ids", "logits_to_keep"} <= accepted.keys():
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def sort_keys(sequences: Sequence[list[int]]) -> list[tuple[tuple[int, ...], int]]:
    """Keys that put rows with a common beginning together, and rows of one length."""
    heads = [tuple(tokens[:HEAD]) for tokens in sequences]
    common = Counter(heads)
    return [
        (head if common[head] > 1 else (), len(tokens)) for head, tokens in zip(heads, sequences, strict=True)
    ]


def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A micro-batch of rows with `input_ids` and `labels`, which are IGNORED up to the completion.

    `prefix_ids` [1, prefix] is what all rows begin with; `input_ids`, `labels` and `position_ids`
    [rows, rest] are what follows, padded on the left so that completions end together;
    `attention_mask` is [rows, prefix + rest].
    """
    shared = _shared_length(rows)
    rest = [torch.tensor(row["input_ids"][shared:]) for row in rows]
    present = _pad([torch.ones_like(tokens) for tokens in rest], 0)
    return {
        "prefix_ids": torch.tensor([rows[0]["input_ids"][:shared]], dtype=torch.long),
        "input_ids": _pad(rest, 0),
        "labels": _pad([torch.tensor([IGNORED, *row["labels"][shared + 1 :]]) for row in rows], IGNORED),
        "attention_mask": torch.cat([present.new_ones(len(rows), shared), present], dim=1),
        "position_ids": (shared + present.cumsum(1) - 1).clamp(min=0),
    }


def _shared_length(rows: Sequence[dict[str, list[int]]]) -> int:
    """Tokens that all rows begin with; the one that predicts the first of a completion stays out.

    One row shares nothing: it is run in one go.
    """
    if len(rows) == 1:
        return 0
    columns = zip(*(row["input_ids"] for row in rows), strict=False)
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    prompts = (sum(1 for _ in takewhile(IGNORED.__eq__, row["labels"])) for row in rows)
    return max(0, min(alike, min(prompts) - 1))


def _pad(rows: Sequence[Tensor], value: int) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value, padding_side="left")


def score(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The summed negative log-likelihood of the completions in a batch of `collate`, and how many of
    their tokens are the likeliest ones.
    """
    labels = batch["labels"]
    longest = int((labels != IGNORED).any(0).sum())
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        **_prefix_cache(model, batch["prefix_ids"], len(labels)),
        logits_to_keep=longest + 1,
    ).logits[:, :-1]
    targets = labels[:, labels.shape[1] - longest :]
    loss = cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return loss, (logits.detach().argmax(-1) == targets).sum()


def _prefix_cache(model: PreTrainedModel, prefix: Tensor, rows: int) -> dict[str, Any]:
    """Keys and values of the prefix, run once and repeated for each row: gradients flow back through them."""
    if prefix.shape[1] == 0:
        return {"use_cache": False}
    cache = DynamicCache(config=model.config)
    model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(rows)
    return {"past_key_values": cache, "use_cache": True}
