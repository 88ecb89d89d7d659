"""A reward model from preference pairs with TRL's RewardTrainer (arXiv 2203.02155). Runs in the child only.

M_t's body gets a head that gives one number r at the last token of a conversation. The loss of a pair with
Δ = r(chosen) − r(rejected) is −p·log σ(Δ) − (1−p)·log σ(−Δ), where p is the judge's probability that chosen
is better (arXiv 2309.00267), 1 where the pair has none; `train.reward.centre` adds its weight times
(r(chosen) + r(rejected))², which keeps rewards around zero (arXiv 2312.09244).
"""

from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import RewardJob
from selfreward.training.pairs import conversation, fitting_pairs
from selfreward.training.resuming import ResumableTrainer
from selfreward.training.trainer import (
    WEIGHT_PATTERNS,
    SortedBatches,
    Stream,
    adapter,
    common_arguments,
    load_model,
    load_text_parts,
    longest,
    publish_trained,
)

OF_ITS_OWN = (*WEIGHT_PATTERNS, "config.json", "generation_config.json")
"""Files of M_t that a reward model does not take over."""
HEADS = ("score", "classifier")
"""What transformers calls the head, by architecture."""
NAMES = {"margin": "rewards/margins", "accuracy": "rewards/accuracies"}
"""TRL's figures by the names that its other trainers give them."""


def train_reward(job: RewardJob, events: EventWriter) -> str:
    """Make a reward model from M_t and publish it as `job.output`; returns its digest.

    Raises JobFailed when the pairs are too few, the architecture has no such head, the loss or the gradient
    is not finite, or the disk is too small for the result.
    """
    source, tokenizer = load_text_parts(job.model)
    config = headed(source, tokenizer)
    pairs = fitting_pairs(job, tokenizer, longest(source, job.settings), events)
    trainer = _trainer(job, _load(job, config, events), tokenizer, pairs, events)
    origin = job.origin(pairs)
    trainer.train_on(job, origin, events)
    _body(trainer.model).config = config  # without what the training has done to it
    return publish_trained(job, trainer.model, source, [job.origin(), origin], OF_ITS_OWN)


def headed(source: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """M_t's config with one label. The padding token is how the head finds the last token of a row.

    Raises JobFailed (`bad_model`) where transformers has no such head for the architecture.
    """
    if source.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise JobFailed(
            "bad_model",
            f"transformers has no head for rewards on a {source.model_type} model",
            'Do without a reward model: train.objective = "dpo", or train.rl.reward = "judge".',
        )
    config = type(source).from_dict(source.to_dict())
    config.num_labels = 1
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    config.get_text_config().pad_token_id = config.pad_token_id = padding
    return config


def _load(job: RewardJob, config: PreTrainedConfig, events: EventWriter) -> PreTrainedModel:
    """M_t's body under a head that is drawn from the job's seed: the same one whenever it is loaded."""
    set_seed(job.seed % 2**32)
    model = load_model(job, config, events, AutoModelForSequenceClassification)
    for name in HEADS:
        if isinstance(head := getattr(model, name, None), torch.nn.Module):
            head.float()  # trained whole, beside adapters too: see training/trainer.py on bfloat16
    return model


def _row(pair: dict[str, Any]) -> dict[str, Any]:
    """What TRL is given, and p."""
    soft = pair.get("soft_label")
    return conversation({**pair, "reference": None}) | {"soft_label": 1.0 if soft is None else float(soft)}


def _trainer(
    job: RewardJob,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[dict[str, Any]],
    events: EventWriter,
) -> "SoftRewardTrainer":
    settings = job.settings
    return SoftRewardTrainer(
        model=model,
        args=RewardConfig(
            **common_arguments(job),
            center_rewards_coefficient=settings.centre or None,
            disable_dropout=settings.dropout == 0,
        ),
        data_collator=SoftCollator(pad_token_id=model.config.get_text_config().pad_token_id),
        train_dataset=Dataset.from_list([_row(pair) for pair in pairs]),
        processing_class=tokenizer,
        callbacks=[Stream(events, job.section, pairs=len(pairs))],
        peft_config=_adapter(job, model),
    )


def _adapter(job: RewardJob, model: PreTrainedModel) -> Any:
    """Adapters for the body; the head, which is new, is trained whole."""
    config = adapter(job.settings.lora)
    if config is not None:
        config.task_type = "SEQ_CLS"
        config.modules_to_save = [name for name in HEADS if hasattr(model, name)]
    return config


def _body(model: Any) -> Any:
    """The model itself, under adapters or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class SoftCollator(DataCollatorForPreference):  # type: ignore[misc]  # TRL has no types for it
    """TRL's batches of a pair's two sides, with p."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Chosen rows above rejected ones, padded on the right; `soft_label` has one number a pair."""
        batch: dict[str, Any] = super().torch_call(examples)
        batch["soft_label"] = torch.tensor([example["soft_label"] for example in examples])
        return batch


class SoftRewardTrainer(ResumableTrainer, RewardTrainer):  # type: ignore[misc]  # TRL has no types for it
    """TRL's trainer with soft labels, and with less padding: a batch is cut into micro-batches by length."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedBatches:
        lengths = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in self.train_dataset]
        batch_size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return SortedBatches(lengths, batch_size, self.args.data_seed)

    def _set_signature_columns_if_needed(self) -> None:
        """Columns that a batch is made of."""
        self._signature_columns = ["chosen_ids", "rejected_ids", "soft_label"]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """TRL's −log σ(Δ) plus (1−p)·Δ, the mean over the pairs: since log σ(−Δ) = log σ(Δ) − Δ, that is the
        loss for p."""
        assert not return_outputs, "nothing is evaluated while training"
        soft = inputs.pop("soft_label")
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        chosen, rejected = torch.chunk(outputs.logits.squeeze(-1), 2)
        self._rename(chosen, rejected)
        return loss + ((1 - soft).to(chosen.dtype) * (chosen - rejected)).mean()

    def _rename(self, chosen: torch.Tensor, rejected: torch.Tensor) -> None:
        """The figures of this micro-batch under the names that the pages know."""
        metrics = self._metrics["train"]
        for name, better in NAMES.items():
            metrics[better].append(metrics.pop(name)[-1])
        metrics["rewards/chosen"].append(chosen.mean().item())
        metrics["rewards/rejected"].append(rejected.mean().item())
