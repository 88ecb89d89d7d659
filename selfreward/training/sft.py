"""SFT of a model on examples with TRL: the bootstrap's trainer. Runs in the child only.

Only the tokens of the completion are learnt, the token that ends the turn among them.
"""

from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from selfreward.training.completions import IGNORED, collate, score, sort_keys, supports_shared_prefix
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import SftJob
from selfreward.training.origin import read_rows
from selfreward.training.resuming import ResumableTrainer
from selfreward.training.trainer import (
    SortedBatches,
    Stream,
    adapter,
    common_arguments,
    load_model,
    load_text_parts,
    longest,
    publish_trained,
    token_count,
)


def train_sft(job: SftJob, events: EventWriter) -> str:
    """Train `job.model` on `job.examples` and publish the result as `job.output`; returns its digest.

    Raises JobFailed when no example fits, the loss or the gradient is not finite, or the disk is too
    small for the result.
    """
    config, tokenizer = load_text_parts(job.model)
    examples = _fitting_examples(job, tokenizer, longest(config, job.settings), events)
    model = load_model(job, config, events)
    trainer = build_trainer(job, model, tokenizer, examples, events)
    _check_ends(trainer.train_dataset, _stop_tokens(model, tokenizer), events)
    origin = job.origin(examples)
    trainer.train_on(job, origin, events)
    return publish_trained(job, trainer.model, config, [job.origin(), origin])


def _fitting_examples(
    job: SftJob, tokenizer: PreTrainedTokenizerBase, limit: int, events: EventWriter
) -> list[dict[str, Any]]:
    """The examples that fit whole. The others are reported, never cut."""
    examples = list(read_rows(job.examples))
    too_long = {
        example["example_id"]
        for example in examples
        if token_count(tokenizer, [turn for side in _conversation(example).values() for turn in side]) > limit
    }
    if too_long:
        events.emit("too_long", example_ids=sorted(too_long))
    if len(fitting := [each for each in examples if each["example_id"] not in too_long]) < job.needed:
        raise JobFailed(
            "too_few_examples",
            f"{len(fitting) or 'none'} of {len(examples)} examples can be trained on: "
            f"{len(too_long)} are longer than {limit} tokens",
            f"Give more examples, or raise {job.section}.max_length if the model's context allows it.",
        )
    return fitting


def _conversation(row: dict[str, Any]) -> dict[str, Any]:
    """An example in TRL's conversational format."""
    return {
        "prompt": [{"role": "user", "content": row["input"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }


def build_trainer(
    job: SftJob,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[dict[str, Any]],
    events: EventWriter,
) -> "SortedSftTrainer":
    """TRL's trainer, or on a CPU the one that does the same with less work."""
    spare = (
        not torch.cuda.is_available()
        and not job.settings.gradient_checkpointing  # which does without the cache
        and supports_shared_prefix(model)
    )
    return (SparingSftTrainer if spare else SortedSftTrainer)(
        model=model,
        args=SFTConfig(**common_arguments(job), completion_only_loss=True),
        data_collator=collate if spare else None,
        train_dataset=Dataset.from_list([_conversation(example) for example in examples]),
        processing_class=tokenizer,
        callbacks=[Stream(events, job.section, examples=len(examples))],
        peft_config=adapter(job.settings.lora),
    )


def _stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens at which the engine ends a reply."""
    configured = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])} - {None}


def _check_ends(rows: Dataset, stops: set[int], events: EventWriter) -> None:
    endless = sum(stops.isdisjoint(labels) for labels in rows["labels"])
    if endless:
        events.emit(
            "note",
            message=f"the chat template ends {endless} of {len(rows)} completions without a token that "
            "stops generation: the model does not learn from them when to stop",
        )


class SortedSftTrainer(ResumableTrainer, SFTTrainer):  # type: ignore[misc]  # TRL has no types for it
    """TRL's trainer, with less padding: a batch is drawn then cut into micro-batches of like rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedBatches:
        batch_size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return SortedBatches(sort_keys(self.train_dataset["input_ids"]), batch_size, self.args.data_seed)


class SparingSftTrainer(SortedSftTrainer):
    """Computes TRL's loss from the batches of `completions.collate`."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The mean over the completion tokens of the whole batch, of which `inputs` are a part."""
        assert not return_outputs, "nothing is evaluated while training"
        loss, correct = score(model, inputs)
        tokens = (inputs["labels"] != IGNORED).sum()
        self._metrics["train"]["mean_token_accuracy"].append((correct / tokens).item())
        return loss / (tokens if num_items_in_batch is None else num_items_in_batch)
