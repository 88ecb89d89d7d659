"""DPO of M_t on its own preference pairs with TRL (arXiv 2305.18290), and its relatives. Child only."""

from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig

from selfreward.training.events import EventWriter
from selfreward.training.jobs import DpoJob
from selfreward.training.pairs import conversation, fitting_pairs
from selfreward.training.preferences import DpoTrainer, PairCollator, SlicTrainer, SoftDpoTrainer
from selfreward.training.sequences import Tokens, tokenised
from selfreward.training.trainer import (
    Stream,
    adapter,
    common_arguments,
    load_model,
    load_text_parts,
    longest,
    publish_trained,
)

OWN_LOSSES = {"cdpo": SoftDpoTrainer, "cream": SoftDpoTrainer, "slic": SlicTrainer}
"""Trainers of the objectives that are no loss of TRL's."""


def train_dpo(job: DpoJob, events: EventWriter) -> str:
    """Make M_{t+1} from M_t and publish it as `job.output`; returns its digest.

    Raises JobFailed when the pairs are too few, the loss or the gradient is not finite, or the
    disk is too small for the result.
    """
    config, tokenizer = load_text_parts(job.model)
    pairs = fitting_pairs(job, tokenizer, longest(config, job.settings), events)
    trainer = build_trainer(job, load_model(job, config, events), tokenizer, pairs, events)
    origin = job.origin(pairs)
    trainer.train_on(job, origin, events)
    return publish_trained(job, trainer.model, config, [job.origin(), origin])


def build_trainer(
    job: DpoJob,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[dict[str, Any]],
    events: EventWriter,
) -> DpoTrainer:
    """TRL's trainer, its reference log-probabilities already computed from the untouched M_t."""
    # In evaluation mode while TRL computes the reference: dropout must not touch it.
    model.eval()
    settings = job.settings
    own = OWN_LOSSES.get(settings.objective)
    trainer = (own or DpoTrainer)(
        model=model,
        args=DPOConfig(
            **common_arguments(job),
            beta=settings.beta,
            loss_type=["sigmoid"] if own else list(settings.losses),
            loss_weights=None if own else list(settings.loss_weights) or None,
            label_smoothing=settings.label_smoothing,
            disable_dropout=settings.dropout == 0,
            precompute_ref_log_probs=True,
        ),
        data_collator=PairCollator(_padding(tokenizer)) if own else None,
        train_dataset=Dataset.from_list([_row(job, tokenizer, pair, own is not None) for pair in pairs]),
        processing_class=tokenizer,
        callbacks=[Stream(events, job.section, pairs=len(pairs))],
        peft_config=adapter(settings.lora),
    )
    trainer.own = settings
    return trainer


def _row(job: DpoJob, tokenizer: PreTrainedTokenizerBase, pair: dict[str, Any], own: bool) -> dict[str, Any]:
    """What TRL is given, and what the losses of `preferences` need besides."""
    row = conversation({**pair, "reference": None})
    if not own:
        return row
    label = pair.get("soft_label")
    row["soft_label"] = 1 - job.settings.label_smoothing if label is None else label
    reference = pair.get("reference")
    tokens = Tokens([], 0) if reference is None else tokenised(tokenizer, pair["prompt"], reference)
    return row | {"reference_ids": tokens.ids, "reference_begin": tokens.begin}


def _padding(tokenizer: PreTrainedTokenizerBase) -> int:
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in known if token is not None)
