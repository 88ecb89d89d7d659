"""RRHF: M_t learns the order of all candidates of a prompt (arXiv 2304.05302). Runs in the child only.

TRL has no trainer for it. A prompt with all its candidates is one item of a batch, whatever their number.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from selfreward.training import losses
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import RankJob
from selfreward.training.origin import read_rows
from selfreward.training.resuming import ResumableTrainer
from selfreward.training.sequences import Tokens, padded, score, tokenised
from selfreward.training.trainer import (
    SortedBatches,
    Stream,
    adapter,
    common_arguments,
    load_model,
    load_text_parts,
    longest,
    publish_trained,
)


@dataclass(frozen=True)
class Group:
    """The candidates of one prompt with their scores."""

    tokens: list[Tokens]
    scores: list[float]


def train_rank(job: RankJob, events: EventWriter) -> str:
    """Make M_{t+1} from M_t and publish it as `job.output`; returns its digest.

    Raises JobFailed when the groups are too few, the loss or the gradient is not finite, or the disk is
    too small for the result.
    """
    config, tokenizer = load_text_parts(job.model)
    rows = fitting_groups(job, tokenizer, longest(config, job.settings), events)
    model = load_model(job, config, events)
    trainer = build_trainer(job, model, tokenizer, [tokenised_group(tokenizer, row) for row in rows], events)
    origin = job.origin(rows)
    trainer.train_on(job, origin, events)
    return publish_trained(job, trainer.model, config, [job.origin(), origin])


def fitting_groups(
    job: RankJob, tokenizer: PreTrainedTokenizerBase, limit: int, events: EventWriter
) -> list[dict[str, Any]]:
    """The groups with the candidates that fit whole, if there is still an order among them."""
    rows = list(read_rows(job.groups))
    too_long = {
        candidate["candidate_id"]
        for row in rows
        for candidate in row["candidates"]
        if len(tokenised(tokenizer, row["prompt"], candidate["text"]).ids) > limit
    }
    if too_long:
        events.emit("too_long", candidate_ids=sorted(too_long))
    return ordered_groups(job, rows, too_long, limit)


def ordered_groups(
    job: RankJob, rows: Sequence[dict[str, Any]], too_long: set[int], limit: int
) -> list[dict[str, Any]]:
    """The groups without what is too long. Raises JobFailed when fewer than needed keep an order."""
    left = [
        row | {"candidates": [each for each in row["candidates"] if each["candidate_id"] not in too_long]}
        for row in rows
    ]
    fitting = [row for row in left if len({each["score"] for each in row["candidates"]}) > 1]
    if len(fitting) < job.needed:
        raise JobFailed(
            "too_few_pairs",
            f"{len(fitting)} prompts can be trained on, of {len(rows)}; {len(too_long)} answers are longer "
            f"than {limit} tokens; train.min_pairs, which counts prompts here, is {job.settings.min_pairs}",
            "Raise self_instruct.target or sample.candidates for more, or lower train.min_pairs.",
        )
    return fitting


def tokenised_group(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> Group:
    """A row of the job's as tokens."""
    candidates = row["candidates"]
    tokens = [tokenised(tokenizer, row["prompt"], candidate["text"]) for candidate in candidates]
    return Group(tokens, [float(candidate["score"]) for candidate in candidates])


def build_trainer(
    job: RankJob,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: list[Group],
    events: EventWriter,
) -> "RankTrainer":
    """transformers' trainer on groups, with TRL's head that makes no logits."""
    settings = job.settings
    if settings.dropout == 0:
        disable_dropout_in_model(model)
    add_fused_lm_head(model)
    if (lora := adapter(settings.lora)) is not None:
        from peft import get_peft_model

        torch.manual_seed(job.seed % 2**32)
        model = get_peft_model(model, lora)
        if settings.gradient_checkpointing:
            model.enable_input_require_grads()
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    padding = next(token for token in known if token is not None)
    arguments = common_arguments(job)
    del arguments["max_length"]  # TRL's own
    trainer = RankTrainer(
        model=model,
        args=TrainingArguments(**arguments, remove_unused_columns=False),
        data_collator=partial(collate, padding=padding),
        train_dataset=groups,
        processing_class=tokenizer,
        callbacks=[Stream(events, job.section, prompts=len(groups))],
    )
    trainer.weight = settings.rrhf_weight
    return trainer


def collate(groups: Sequence[Group], padding: int) -> dict[str, Tensor]:
    """The groups' candidates one below the other as a padded batch, with `scores` [candidates of all groups]
    and `sizes` [groups].
    """
    batch = padded([tokens for group in groups for tokens in group.tokens], padding)
    scores = torch.tensor([score for group in groups for score in group.scores], dtype=torch.float32)
    return batch | {"scores": scores, "sizes": torch.tensor([len(group.tokens) for group in groups])}


class RankTrainer(ResumableTrainer):
    """RRHF over groups of any size."""

    loss_is_scaled_for_ga = False
    weight: float = 1.0
    """Of the ranking beside the likelihood of the best."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._metrics: dict[str, list[float]] = defaultdict(list)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The mean over the groups."""
        assert not return_outputs, "nothing is evaluated while training"
        logps = score(model, inputs).log_probs.sum(dim=1)
        lengths = inputs["completion_mask"].sum(dim=1)
        sizes = inputs["sizes"].tolist()
        groups = list(
            zip(logps.split(sizes), lengths.split(sizes), inputs["scores"].split(sizes), strict=True)
        )
        for likelihoods, tokens, scores in groups:
            self._tell(likelihoods.detach() / tokens, scores)
        return torch.stack([losses.rrhf(*group, self.weight) for group in groups]).mean()

    def _tell(self, rates: Tensor, scores: Tensor) -> None:
        """Log-probability per token of the best over the worst, and the share of couples in their order."""
        worse = scores[:, None] < scores[None, :]
        right = (rates[:, None] < rates[None, :])[worse].float().mean().item()
        margin = rates[losses.best(scores)] - rates[losses.best(-scores)]
        self._metrics["rewards/margins"].append(margin.item())
        self._metrics["rewards/accuracies"].append(right)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the mean of what the micro-batches told."""
        means = {name: sum(values) / len(values) for name, values in self._metrics.items()}
        self._metrics.clear()
        super().log({**logs, **means}, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedBatches:
        lengths = [max(len(tokens.ids) for tokens in group.tokens) for group in self.train_dataset]
        batch_size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return SortedBatches(lengths, batch_size, self.args.data_seed)
