"""DPO of M_t on its own preference pairs with TRL (arXiv 2305.18290). Runs in the child only."""

from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import DpoJob
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


def train_dpo(job: DpoJob, events: EventWriter) -> str:
    """Make M_{t+1} from M_t and publish it as `job.output`; returns its digest.

    Raises JobFailed when the pairs are too few, the loss or the gradient is not finite, or the
    disk is too small for the result.
    """
    config, tokenizer = load_text_parts(job.model)
    pairs = _fitting_pairs(job, tokenizer, longest(config, job.settings), events)
    trainer = _trainer(job, load_model(job, config, events), tokenizer, pairs, events)
    origin = job.origin(pairs)
    trainer.train_on(job, origin, events)
    return publish_trained(job, trainer.model, config, [job.origin(), origin])


def _fitting_pairs(
    job: DpoJob, tokenizer: PreTrainedTokenizerBase, limit: int, events: EventWriter
) -> list[dict[str, Any]]:
    """The pairs that fit whole. The others are reported, never cut."""
    pairs = list(read_rows(job.pairs))
    too_long = {pair["pair_id"] for pair in pairs if _longer_side(tokenizer, _conversation(pair)) > limit}
    if too_long:
        events.emit("too_long", pair_ids=sorted(too_long))
    fitting = [pair for pair in pairs if pair["pair_id"] not in too_long]
    if len(fitting) < max(1, job.settings.min_pairs):
        raise JobFailed(
            "too_few_pairs",
            f"{len(fitting)} pairs can be trained on, of {len(pairs)} drawn; {len(too_long)} are longer than "
            f"{limit} tokens; train.min_pairs is {job.settings.min_pairs}",
            "Raise self_instruct.target or sample.candidates for more pairs, or lower train.min_pairs.",
        )
    return fitting


def _conversation(row: dict[str, Any]) -> dict[str, Any]:
    """A pair in TRL's conversational format."""
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }


def _longer_side(tokenizer: PreTrainedTokenizerBase, pair: dict[str, Any]) -> int:
    """Tokens of the longer side, prompt and template included."""
    return max(token_count(tokenizer, pair["prompt"] + pair[side]) for side in ("chosen", "rejected"))


def _trainer(
    job: DpoJob,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[dict[str, Any]],
    events: EventWriter,
) -> "DpoTrainer":
    """TRL's trainer, its reference log-probabilities already computed from the untouched M_t."""
    # In evaluation mode while TRL computes the reference: dropout must not touch it.
    model.eval()
    return DpoTrainer(
        model=model,
        args=DPOConfig(
            **common_arguments(job),
            beta=job.settings.beta,
            loss_type=["sigmoid"],
            disable_dropout=job.settings.dropout == 0,
            precompute_ref_log_probs=True,
        ),
        train_dataset=Dataset.from_list([_conversation(pair) for pair in pairs]),
        processing_class=tokenizer,
        callbacks=[Stream(events, job.section, pairs=len(pairs))],
        peft_config=adapter(job.settings.lora),
    )


class DpoTrainer(ResumableTrainer, DPOTrainer):  # type: ignore[misc]  # TRL has no types for it
    """TRL's trainer, with less padding: a batch is drawn as ever, then cut into micro-batches by length."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedBatches:
        lengths = [
            len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
            for row in self.train_dataset
        ]
        batch_size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return SortedBatches(lengths, batch_size, self.args.data_seed)
