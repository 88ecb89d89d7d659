"""Rewards of answers by a sequence classifier with one label. Runs in child processes only.

The server of a reward-model judge and reinforcement learning both score with this.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from selfreward.training.failures import JobFailed
from selfreward.training.reward_source import WHAT_WORKS, head_problem

HEADS = ("score", "classifier")
Pair = tuple[str, str]
"""(prompt, response)."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the model makes of an answer."""

    reward: float | None
    """Any finite number; None when the conversation does not fit the model's context, or is not finite."""
    tokens: int
    """Of the whole conversation."""
    fits: bool
    """Whether it is no longer than the context."""


class RewardModel:
    """A loaded reward model. Called with pairs it gives a number for each, NaN where there is none."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size
        config = model.config.get_text_config()
        self._padding = tokenizer.eos_token_id if config.pad_token_id is None else config.pad_token_id
        config.pad_token_id = self._padding
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self.template: str = tokenizer.chat_template
        """With which a conversation is written down."""

    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        """The reward of each response to its prompt; NaN for what does not fit the model's context."""
        return [math.nan if one.reward is None else one.reward for one in self.score(pairs)]

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """The same with how long each conversation is. Those of like length are computed together."""
        rows = [self._tokens(*pair) for pair in pairs]
        fitting = [place for place, row in enumerate(rows) if self._fits(row)]
        rewards: dict[int, float] = {}
        fitting.sort(key=lambda place: len(rows[place]))
        for start in range(0, len(fitting), self._batch_size):
            places = fitting[start : start + self._batch_size]
            rewards.update(zip(places, self._rewards([rows[place] for place in places]), strict=True))
        return [
            Scored(reward=_finite(rewards.get(place)), tokens=len(row), fits=self._fits(row))
            for place, row in enumerate(rows)
        ]

    def _fits(self, row: Sequence[int]) -> bool:
        return self._context is None or len(row) <= self._context

    def _tokens(self, prompt: str, response: str) -> list[int]:
        """The conversation exactly as the reward model was trained on it."""
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        return list(self._tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])

    def _rewards(self, rows: Sequence[list[int]]) -> list[float]:
        """Of a batch, in halves when it does not fit the memory."""
        try:
            return self._forward(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        middle = len(rows) // 2
        return [*self._rewards(rows[:middle]), *self._rewards(rows[middle:])]

    def _forward(self, rows: Sequence[list[int]]) -> list[float]:
        width = max(map(len, rows))
        ids = torch.tensor([row + [self._padding] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
        return [float(reward) for reward in logits.squeeze(-1).float().cpu()]


def load_reward_model(source: Path, template_of: Path | None = None, batch_size: int = 8) -> RewardModel:
    """The sequence classifier in the directory `source`, on the GPU if there is one.

    `template_of` is a model directory whose chat template is taken where the reward model has none of its
    own. On a GPU it computes in the format it is stored in, else in float32; the head in float32 everywhere.
    Raises JobFailed (`bad_model`) for what is no reward model: other than one label, a head without weights,
    no chat template.
    """
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise JobFailed(
            "bad_model", f"the reward model {source} cannot be loaded: {error}", WHAT_WORKS
        ) from error
    problem = head_problem({"architectures": config.architectures, "num_labels": config.num_labels})
    if problem:
        raise JobFailed("bad_model", f"{source} is no reward model: it {problem}", WHAT_WORKS)
    _take_template(tokenizer, source, template_of)
    return RewardModel(_load(source), tokenizer, batch_size)


def _load(source: Path) -> PreTrainedModel:
    on_gpu = torch.cuda.is_available()
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype="auto" if on_gpu else torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise JobFailed(
            "bad_model", f"the reward model {source} cannot be loaded: {error}", WHAT_WORKS
        ) from error
    if missing := sorted(found["missing_keys"]):
        message = f"{source} is no reward model: it has no weights for {', '.join(missing)}"
        raise JobFailed("bad_model", message, WHAT_WORKS)
    for head in _heads(model):
        head.float().register_forward_pre_hook(_in_float32)
    return model.to("cuda" if on_gpu else "cpu").eval()


def _heads(model: PreTrainedModel) -> Iterator[torch.nn.Module]:
    found = (getattr(model, name, None) for name in HEADS)
    return (head for head in found if isinstance(head, torch.nn.Linear))


def _in_float32(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """In bfloat16 rewards around 3 would be 0.016 apart, and ties common."""
    return (arguments[0].float(), *arguments[1:])


def _take_template(tokenizer: PreTrainedTokenizerBase, source: Path, template_of: Path | None) -> None:
    if tokenizer.chat_template is None and template_of is not None:
        other = AutoTokenizer.from_pretrained(template_of, local_files_only=True, trust_remote_code=False)
        tokenizer.chat_template = other.chat_template
    if tokenizer.chat_template is None:
        raise JobFailed(
            "bad_model",
            f"the reward model {source} has no chat template, and neither has the model it scores",
            "Put a chat_template.jinja into its directory.",
        )


def _finite(reward: float | None) -> float | None:
    return reward if reward is not None and math.isfinite(reward) else None
