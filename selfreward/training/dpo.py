"""DPO of M_t on its own preference pairs with TRL (arXiv 2305.18290). Runs in the child only.

Full training keeps fp32 master weights whatever M_t is stored in: in bfloat16 an AdamW update at
a learning rate of 1e-6 is mostly smaller than half a unit in the last place and would be lost.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer

from selfreward.config import LoraSettings, TrainSettings
from selfreward.training import checkpoint
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed, require_space
from selfreward.training.jobs import DpoJob
from selfreward.training.machine import bf16_is_fast, describe_machine

DROPOUT_FIELDS = (
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "dropout",
    "embd_pdrop",
    "embedding_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "resid_dropout",
    "resid_pdrop",
)
WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json", checkpoint.MANIFEST)


def train_dpo(job: DpoJob, events: EventWriter) -> str:
    """Make M_{t+1} from M_t and publish it as `job.output`; returns its digest.

    Raises JobFailed when the pairs are too few, the loss or the gradient is not finite, or the
    disk is too small for the result.
    """
    config, tokenizer = _load_text_parts(job.model)
    pairs = _fitting_pairs(job, tokenizer, _longest(config, job.settings), events)
    bf16 = _compute_in_bf16(job.settings)
    model = _load_model(job, config, bf16, events)
    trainer = _trainer(job, model, tokenizer, pairs, bf16, events)
    trainer.train()
    trained = trainer.model.merge_and_unload() if job.settings.lora.enabled else trainer.model
    return _save(job, trained, config)


def _load_text_parts(path: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise JobFailed("bad_model", f"{path} cannot be loaded: {error}") from error
    return config, tokenizer


def _longest(config: PreTrainedConfig, settings: TrainSettings) -> int:
    """Tokens a pair's side may have: what the user allows, and no more than the model can see."""
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(settings.max_length, context or settings.max_length)


def _fitting_pairs(
    job: DpoJob, tokenizer: PreTrainedTokenizerBase, longest: int, events: EventWriter
) -> list[dict[str, Any]]:
    """The pairs that fit whole, in TRL's conversational format. The others are reported, never cut."""
    rows = [json.loads(line) for line in job.pairs.read_text(encoding="utf-8").splitlines() if line.strip()]
    pairs = {row["pair_id"]: _conversation(row) for row in rows}
    too_long = [pair_id for pair_id, pair in pairs.items() if _token_count(tokenizer, pair) > longest]
    if too_long:
        events.emit("too_long", pair_ids=too_long)
    fitting = [pair for pair_id, pair in pairs.items() if pair_id not in set(too_long)]
    if len(fitting) < max(1, job.settings.min_pairs):
        raise JobFailed(
            "too_few_pairs",
            f"{len(fitting)} pairs can be trained on, of {len(rows)} drawn; {len(too_long)} are longer than "
            f"{longest} tokens; train.min_pairs is {job.settings.min_pairs}",
            "Raise self_instruct.target or sample.candidates for more pairs, or lower train.min_pairs.",
        )
    return fitting


def _conversation(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }


def _token_count(tokenizer: PreTrainedTokenizerBase, pair: dict[str, Any]) -> int:
    """Tokens of the longer side, prompt and template included: exactly what TRL will feed the model."""
    sides = (pair["prompt"] + pair[side] for side in ("chosen", "rejected"))
    return max(len(tokenizer.apply_chat_template(side, return_dict=True)["input_ids"]) for side in sides)


def _compute_in_bf16(settings: TrainSettings) -> bool:
    return bf16_is_fast() if settings.bf16 is None else settings.bf16


def _load_model(job: DpoJob, source: PreTrainedConfig, bf16: bool, events: EventWriter) -> PreTrainedModel:
    """M_t ready to train: in fp32, or under an adapter frozen in the format it computes in."""
    config = type(source).from_dict(source.to_dict())
    _set_dropout(config, job.settings.dropout, events)
    frozen_in_bf16 = bf16 and job.settings.lora.enabled
    try:
        return AutoModelForCausalLM.from_pretrained(
            job.model,
            config=config,
            dtype=torch.bfloat16 if frozen_in_bf16 else torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise JobFailed("bad_model", f"{job.model} cannot be loaded: {error}") from error


def _set_dropout(config: PreTrainedConfig, dropout: float, events: EventWriter) -> None:
    present = [name for name in DROPOUT_FIELDS if isinstance(getattr(config, name, None), int | float)]
    for name in present:
        setattr(config, name, dropout)
    if dropout and not present:
        events.emit(
            "note", message=f"train.dropout has no effect: a {config.model_type} model has no dropout"
        )


def _trainer(
    job: DpoJob,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[dict[str, Any]],
    bf16: bool,
    events: EventWriter,
) -> "DpoTrainer":
    """TRL's trainer, its reference log-probabilities already computed from the untouched M_t."""
    # In evaluation mode while TRL computes the reference: dropout must not touch it.
    model.eval()
    return DpoTrainer(
        model=model,
        args=_arguments(job, bf16),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=[_Stream(events, len(pairs))],
        peft_config=_lora(job.settings.lora),
    )


def _arguments(job: DpoJob, bf16: bool) -> DPOConfig:
    settings = job.settings
    on_gpu = torch.cuda.is_available()
    return DPOConfig(
        output_dir=str(job.work),
        beta=settings.beta,
        loss_type=["sigmoid"],
        learning_rate=settings.learning_rate,
        **_schedule(settings),
        warmup_steps=settings.warmup_ratio,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        num_train_epochs=settings.epochs,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        disable_dropout=settings.dropout == 0,
        max_length=None,  # what does not fit was dropped; nothing may be cut
        precompute_ref_log_probs=True,
        bf16=bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        seed=job.seed % 2**32,
        data_seed=job.seed % 2**32,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=list(settings.report_to) or "none",
        run_name=job.output.name,
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
    )


def _schedule(settings: TrainSettings) -> dict[str, Any]:
    """The scheduler that goes from the peak rate to the final one; equal rates are a constant."""
    if settings.schedule == "constant" or settings.final_learning_rate == settings.learning_rate:
        return {"lr_scheduler_type": "constant_with_warmup"}
    if settings.schedule == "linear":
        options = {"lr_end": settings.final_learning_rate, "power": 1.0}
        return {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": options}
    options = {"min_lr": settings.final_learning_rate}
    return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": options}


def _lora(settings: LoraSettings) -> Any:
    """A peft LoraConfig, or None for full training."""
    if not settings.enabled:
        return None
    from peft import LoraConfig

    names = [name.strip() for name in settings.target_modules.split(",")]
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names[0] if len(names) == 1 else names,
        task_type="CAUSAL_LM",
    )


class DpoTrainer(DPOTrainer):  # type: ignore[misc]  # TRL has no types for it
    """TRL's trainer, with less padding: a batch is drawn as ever, then cut into micro-batches by length."""

    def _get_train_sampler(self, train_dataset: Any = None) -> "_SortedBatches":
        lengths = [
            len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
            for row in self.train_dataset
        ]
        batch_size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return _SortedBatches(lengths, batch_size, self.args.data_seed)


class _SortedBatches(Sampler[int]):  # type: ignore[misc]
    """Random batches, each sorted by length. The gradient of a batch does not depend on order within it."""

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self._lengths), generator=self._generator).tolist()
        for start in range(0, len(order), self._batch_size):
            yield from sorted(order[start : start + self._batch_size], key=self._lengths.__getitem__)


class _Stream(TrainerCallback):  # type: ignore[misc]  # transformers has no types for it
    """Sends each optimiser step to the daemon and stops at the first number that is not finite."""

    def __init__(self, events: EventWriter, pair_count: int) -> None:
        self._events = events
        self._pair_count = pair_count

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._events.emit("start", total_steps=state.max_steps, pairs=self._pair_count, **describe_machine())

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        values = {
            name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)
        }
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if "loss" in values:
            self._events.emit("metric", step=state.global_step, values=finite)
        for name in ("loss", "grad_norm"):
            if name in values and name not in finite:
                raise JobFailed(
                    "non_finite",
                    f"{name} is {values[name]} at step {state.global_step} of {state.max_steps}",
                    "Lower train.learning_rate; with bfloat16, try train.bf16 = false.",
                )


def _save(job: DpoJob, model: PreTrainedModel, config: PreTrainedConfig) -> str:
    """Publish the weights in M_t's own format beside M_t's own tokenizer, template and config."""
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16
    require_space(job.output.parent, sum(p.numel() for p in model.parameters()) * dtype.itemsize)
    temporary = checkpoint.temporary_path(job.output, job.fence)
    shutil.rmtree(temporary, ignore_errors=True)
    model.to(dtype).save_pretrained(temporary)
    # Only the weights have changed. What TRL and the dropout setting did to the config stays here.
    shutil.copytree(job.model, temporary, ignore=shutil.ignore_patterns(*WEIGHT_PATTERNS), dirs_exist_ok=True)
    digest = checkpoint.write_manifest(temporary)
    checkpoint.publish(temporary, job.output)
    return digest
