"""What the child computes on. Runs in the child only."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

REPORTED_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


def bf16_is_fast() -> bool:
    """Whether bfloat16 is computed by the hardware here; emulated it is slower than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if os.uname().machine not in {"x86_64", "AMD64"}:
        return False
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def use_all_cores() -> None:
    """Compute with every core this process may use, unless the user has said otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))


def describe_machine() -> dict[str, Any]:
    """Device and library versions, for the record of the run."""
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {"device": device, "versions": {name: _version(name) for name in REPORTED_PACKAGES}}


def versions() -> list[str]:
    """The libraries that write and read a training's state, each with its version."""
    return [f"{name} {_version(name)}" for name in REPORTED_PACKAGES]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
