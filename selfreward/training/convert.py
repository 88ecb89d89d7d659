"""Makes whatever `model = "…"` names into a checkpoint: safetensors, tokenizer, chat template, manifest.

Runs in the child. Code that comes with a model is never executed, and the source is never changed.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from selfreward.errors import BadInput
from selfreward.training import checkpoint
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed, require_space
from selfreward.training.jobs import ConvertJob
from selfreward.training.machine import describe_machine
from selfreward.training.origin import of_source
from selfreward.training.sources import ModelSource, parse_model_source

__all__ = ["ModelSource", "convert", "parse_model_source"]

KEPT_PATTERNS = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.tiktoken",
    "LICENSE*",
    "NOTICE*",
)
PLAIN_TEMPLATE = """\
{%- if bos_token %}{{ bos_token }}{% endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{ 'User: ' + message['content'] + '\\n' }}
{%- elif message['role'] == 'assistant' -%}
{{ 'Assistant: ' + message['content'] + eos_token + '\\n' }}
{%- else -%}
{{ message['content'] + '\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ 'Assistant:' }}
{%- endif -%}
"""


def convert(job: ConvertJob, events: EventWriter) -> str:
    """Publish the model that `job.source` names as the checkpoint `job.output`; returns its digest.

    Raises JobFailed (`bad_model`, `no_space`) when the source cannot be used or does not fit.
    """
    try:
        source = parse_model_source(job.source, job.run_dir)
    except BadInput as error:
        raise JobFailed("bad_model", error.message, error.hint) from error
    events.emit("start", total_steps=1, **describe_machine())
    temporary = checkpoint.temporary_path(job.output, job.fence)
    shutil.rmtree(temporary, ignore_errors=True)
    MAKE[source.kind](source, temporary)
    _check_loadable(temporary, job.source)
    _ensure_chat_template(temporary, events)
    digest = checkpoint.write_manifest(temporary, [of_source(job.source)])
    checkpoint.publish(temporary, job.output)
    return digest


def _from_directory(source: ModelSource, target: Path) -> None:
    assert source.path is not None
    _take_files(source.path, target)


def _from_hub(source: ModelSource, target: Path) -> None:
    _take_files(from_hub(source.text), target)


def from_hub(name: str, patterns: Sequence[str] = KEPT_PATTERNS) -> Path:
    """Download, or find in the hub's cache; `HF_HUB_OFFLINE` and `HF_TOKEN` are the hub library's own.

    Returns the directory in that cache. Raises JobFailed (`bad_model`).
    """
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise JobFailed(
            "bad_model",
            f"{name} cannot be fetched from the hub: {str(error).splitlines()[0]}",
            "Check the name and the connection; gated models need HF_TOKEN, and with HF_HUB_OFFLINE=1 "
            "the model must be in the hub's cache already.",
        ) from error


def _take_files(origin: Path, target: Path) -> None:
    """Hard-link the weights, or copy them across file systems; copy the small files."""
    names = sorted({file for pattern in KEPT_PATTERNS for file in origin.glob(pattern) if file.is_file()})
    target.mkdir(parents=True)
    for file in names:
        if file.name == checkpoint.MANIFEST:
            continue
        real = file.resolve()  # the hub's cache holds links to blobs
        if file.suffix != ".safetensors" or not _hard_link(real, target / file.name):
            require_space(target, real.stat().st_size)
            shutil.copyfile(real, target / file.name)


def _hard_link(file: Path, target: Path) -> bool:
    try:
        os.link(file, target)
    except OSError:
        return False
    return True


def _from_gguf(source: ModelSource, target: Path) -> None:
    """Dequantise to float32 and store as bfloat16."""
    assert source.path is not None
    where: dict[str, Any] = {"gguf_file": source.path.name}
    model = AutoModelForCausalLM.from_pretrained(
        source.path.parent,
        **where,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        trust_remote_code=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(source.path.parent, **where, trust_remote_code=False)
    require_space(target.parent, sum(p.numel() for p in model.parameters()) * torch.bfloat16.itemsize)
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _check_loadable(directory: Path, text: str) -> None:
    """Config of a known causal language model, readable weight files, a tokenizer with an end token."""
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        for file in directory.glob("*.safetensors"):
            with safe_open(file, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError) as error:
        raise JobFailed("bad_model", f"{text} cannot be loaded: {error}") from error
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise JobFailed("bad_model", f"{text} is a {config.model_type} model, not a causal language model")
    if not any(directory.glob("*.safetensors")):
        raise JobFailed("bad_model", f"{text} has no safetensors weights, and nothing else is loaded")
    if tokenizer.eos_token is None:
        raise JobFailed("bad_model", f"the tokenizer of {text} has no end-of-sequence token")


def _ensure_chat_template(directory: Path, events: EventWriter) -> None:
    """Give a base model, which has no chat template, a plain one of ours."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if tokenizer.chat_template is None:
        (directory / "chat_template.jinja").write_text(PLAIN_TEMPLATE, encoding="utf-8")
        events.emit("note", message="the model has no chat template; it was given a plain User/Assistant one")


MAKE = {"directory": _from_directory, "hub": _from_hub, "gguf": _from_gguf}
