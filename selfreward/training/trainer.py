"""What DPO and SFT have in common: M as it is loaded, TRL's arguments, the figures of each step, the result.

Runs in the child only. Full training keeps fp32 master weights whatever M is stored in: in bfloat16
an AdamW update at a learning rate of 1e-6 is mostly smaller than half a unit in the last place and
would be lost.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
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

from selfreward.config import LoraSettings, TrainerSettings
from selfreward.crash import crash_point
from selfreward.training import checkpoint, states
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed, require_space
from selfreward.training.jobs import AnyTraining
from selfreward.training.machine import bf16_is_fast, describe_machine
from selfreward.training.trackers import PROJECT

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


def load_text_parts(path: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    """Config and tokenizer of the checkpoint in `path`. Raises JobFailed (`bad_model`)."""
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise JobFailed("bad_model", f"{path} cannot be loaded: {error}") from error
    return config, tokenizer


def longest(config: PreTrainedConfig, settings: TrainerSettings) -> int:
    """Tokens a conversation may have: what the user allows, and no more than the model can see."""
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(settings.max_length, context or settings.max_length)


def token_count(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> int:
    """Tokens of a conversation, the template's included: exactly what TRL will feed the model."""
    return len(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])


def load_model(
    job: AnyTraining, source: PreTrainedConfig, events: EventWriter, kind: Any = AutoModelForCausalLM
) -> PreTrainedModel:
    """M ready to train: in fp32, or under an adapter frozen in the format it computes in.

    `kind` is the class of transformers that loads it: another one gives M's body another head.
    """
    config = type(source).from_dict(source.to_dict())
    _set_dropout(config, job, events)
    frozen_in_bf16 = job.settings.lora.enabled and _compute_in_bf16(job.settings)
    try:
        return kind.from_pretrained(
            job.model,
            config=config,
            dtype=torch.bfloat16 if frozen_in_bf16 else torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise JobFailed("bad_model", f"{job.model} cannot be loaded: {error}") from error


def _compute_in_bf16(settings: TrainerSettings) -> bool:
    return bf16_is_fast() if settings.bf16 is None else settings.bf16


def _set_dropout(config: PreTrainedConfig, job: AnyTraining, events: EventWriter) -> None:
    present = [name for name in DROPOUT_FIELDS if isinstance(getattr(config, name, None), int | float)]
    for name in present:
        setattr(config, name, job.settings.dropout)
    if job.settings.dropout and not present:
        message = f"{job.section}.dropout has no effect: a {config.model_type} model has no dropout"
        events.emit("note", message=message)


def common_arguments(job: AnyTraining) -> dict[str, Any]:
    """What every trainer of TRL is told: rates, batches, precision, seeds, no truncation, no files."""
    settings = job.settings
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(job.work),
        "learning_rate": settings.learning_rate,
        **_schedule(settings),
        "warmup_steps": settings.warmup_ratio,
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.batch_size // settings.micro_batch_size,
        "num_train_epochs": settings.epochs,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "max_length": None,  # what does not fit was left out; nothing may be cut
        "bf16": _compute_in_bf16(settings),
        "gradient_checkpointing": settings.gradient_checkpointing,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "seed": job.seed % 2**32,
        "data_seed": job.seed % 2**32,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": list(settings.report_to) or "none",
        "run_name": job.output.name,
        "project": PROJECT,
        "save_strategy": "no",
        "eval_strategy": "no",
        "disable_tqdm": True,
    }


def _schedule(settings: TrainerSettings) -> dict[str, Any]:
    """The scheduler that goes from the peak rate to the final one; equal rates are a constant."""
    if settings.schedule == "constant" or settings.final_learning_rate == settings.learning_rate:
        return {"lr_scheduler_type": "constant_with_warmup"}
    if settings.schedule == "linear":
        options = {"lr_end": settings.final_learning_rate, "power": 1.0}
        return {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": options}
    options = {"min_lr": settings.final_learning_rate}
    return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": options}


def adapter(settings: LoraSettings) -> Any:
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


class SortedBatches(Sampler[int]):  # type: ignore[misc]  # torch has no types for it
    """Random batches, each sorted by its rows' keys. The gradient of a batch does not depend on order in it.

    Cut into micro-batches, a batch sorted by length needs less padding.
    """

    def __init__(self, keys: Sequence[Any], batch_size: int, seed: int) -> None:
        self._keys = keys
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Told before each pass: a training that goes on must draw what it would have drawn."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        for _ in range(self._epoch):
            torch.randperm(len(self._keys), generator=generator)
        order = torch.randperm(len(self._keys), generator=generator).tolist()
        for start in range(0, len(order), self._batch_size):
            yield from sorted(order[start : start + self._batch_size], key=self._keys.__getitem__)


class Stream(TrainerCallback):  # type: ignore[misc]  # transformers has no types for it
    """Sends each optimiser step to the daemon and stops at the first number that is not finite."""

    def __init__(self, events: EventWriter, section: str, **counts: int) -> None:
        self._events = events
        self._section = section
        self._counts = counts

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        steps = {"first_step": state.global_step + 1, "total_steps": state.max_steps}
        self._events.emit("start", **steps, **self._counts, **describe_machine())

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
                    f"Lower {self._section}.learning_rate; with bfloat16, try {self._section}.bf16 = false.",
                )
        if "loss" in values:
            crash_point("train:step")


def publish_trained(
    job: AnyTraining,
    trained: Any,
    config: PreTrainedConfig,
    made_from: Sequence[str],
    changed: Sequence[str] = WEIGHT_PATTERNS,
) -> str:
    """Publish the weights in M's own format beside M's own tokenizer, template and config.

    `changed` are patterns of the files that are written anew and not taken from M.

    An adapter is merged before. Returns the digest; saved states are of no use then, and are removed.
    Raises JobFailed (`no_space`).
    """
    model = trained.merge_and_unload() if job.settings.lora.enabled else trained
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16
    require_space(job.output.parent, sum(p.numel() for p in model.parameters()) * dtype.itemsize)
    temporary = checkpoint.temporary_path(job.output, job.fence)
    shutil.rmtree(temporary, ignore_errors=True)
    model.to(dtype).save_pretrained(temporary)
    # Only the weights have changed. What TRL and the dropout setting did to the config stays here.
    shutil.copytree(job.model, temporary, ignore=shutil.ignore_patterns(*changed), dirs_exist_ok=True)
    digest = checkpoint.write_manifest(temporary, made_from)
    checkpoint.publish(temporary, job.output)
    if job.states is not None:
        states.forget(job.states)
    return digest
