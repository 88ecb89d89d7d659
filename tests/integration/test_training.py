"""Real TRL children on a tiny model: what they learn, what they refuse, and what a kill leaves behind."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import SftSettings, TrainSettings
from selfreward.errors import TrainingError
from selfreward.training.checkpoint import adoptable, temporary_path, verify
from selfreward.training.events import EventReader, EventWriter
from selfreward.training.jobs import AnyJob, ConvertJob, DpoJob, SftJob, plain, read_job, write_job
from selfreward.training.launch import Stopped, run_job
from tests.integration.training_runs import (
    Ran,
    Recorder,
    assert_nothing_left,
    attempt,
    kill_worker,
    overflow,
    run,
    weights,
    workers,
)
from tests.tiny_model import make_tiny_model

PAIR_COUNT = 12
TOO_LONG = 5
LN2 = math.log(2)


def toy_pairs() -> list[dict[str, Any]]:
    """Chosen answers say yes and rejected ones no, so the preference can be learnt in a few steps."""
    pairs = [
        {
            "pair_id": number,
            "prompt": f"Name {number} uses of a paper clip.",
            "chosen": "yes " * (2 + number % 4) + f"because {number}",
            "rejected": "no " * (5 - number % 4) + f"because {number}",
        }
        for number in range(PAIR_COUNT)
    ]
    pairs[TOO_LONG]["chosen"] = "yes " * 400
    return pairs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "M_1")


def make_job(root: Path, model: Path, pairs: list[dict[str, Any]] | None = None, **settings: Any) -> DpoJob:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(pair) for pair in (toy_pairs() if pairs is None else pairs)))
    values = {"batch_size": 16, "micro_batch_size": 16, "learning_rate": 5e-3, "max_length": 256} | settings
    return DpoJob(
        model=model,
        output=root / "models" / "M_2",
        fence=7,
        pairs=path,
        settings=TrainSettings.model_validate(values),
        seed=3,
        work=root / "work",
    )


# ---- a full run


@pytest.fixture(scope="module")
def full(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All pairs in one batch, four passes."""
    return run(make_job(tmp_path_factory.mktemp("full"), tiny, epochs=4))


pytestmark = pytest.mark.slow


def test_the_checkpoint_is_published_intact_and_can_be_adopted(full: Ran) -> None:
    assert full.error is None and full.result is not None
    assert full.result.path == full.job.output
    assert verify(full.job.output, deep=True) == []
    manifest = adoptable(full.job.output)
    assert manifest is not None and manifest.digest == full.result.digest
    assert [path.name for path in full.job.output.parent.iterdir()] == ["M_2"]
    assert workers(full.job) == []


def test_only_the_weights_change(full: Ran, tiny: Path) -> None:
    import torch

    before, after = weights(tiny), weights(full.job.output)
    assert before.keys() == after.keys()
    assert all(after[name].dtype == before[name].dtype == torch.bfloat16 for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (full.job.output / name).read_bytes() == (tiny / name).read_bytes()


def test_events_come_in_order_one_metric_a_step(full: Ran) -> None:
    kinds = [event["event"] for event in full.recorder.events]
    assert kinds == ["too_long", "start", *["metric"] * 4, "done"]
    start = full.recorder.of("start")[0]
    assert (start["total_steps"], start["pairs"], start["device"]) == (4, PAIR_COUNT - 1, "cpu")
    assert start["versions"]["trl"]
    assert [event["step"] for event in full.recorder.of("metric")] == [1, 2, 3, 4]


def test_too_long_pairs_are_dropped_and_named(full: Ran) -> None:
    assert full.recorder.of("too_long") == [{"event": "too_long", "pair_ids": [TOO_LONG]}]


def test_the_first_step_starts_from_the_reference(full: Ran) -> None:
    assert full.recorder.series("loss")[0] == pytest.approx(LN2, abs=1e-5)
    assert full.recorder.series("rewards/chosen")[0] == pytest.approx(0, abs=1e-5)
    assert full.recorder.series("rewards/rejected")[0] == pytest.approx(0, abs=1e-5)


def test_the_reference_is_the_previous_model_as_it_is_on_disk(full: Ran, tiny: Path) -> None:
    """Log-probabilities at step 1, computed here without TRL."""
    kept = [pair for pair in toy_pairs() if pair["pair_id"] != TOO_LONG]
    expected = sum(answer_logprob(tiny, pair["prompt"], pair["chosen"]) for pair in kept) / len(kept)
    assert full.recorder.series("logps/chosen")[0] == pytest.approx(expected, rel=1e-4)


def answer_logprob(model_dir: Path, prompt: str, answer: str) -> float:
    """log P(answer | prompt) of the stored weights, in nats, template tokens of the answer included."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    start = len(tokenizer(text).input_ids)
    ids = torch.tensor([tokenizer(f"{text}{answer}<|im_end|>\n").input_ids])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    return float(logprobs.gather(1, ids[0, 1:, None])[start - 1 :].sum())


def test_the_preference_is_learnt(full: Ran) -> None:
    margins = full.recorder.series("rewards/margins")
    assert min(margins[1:]) > 0.5
    assert full.recorder.series("loss")[-1] < 0.5
    assert full.recorder.series("rewards/accuracies")[-1] == 1.0


def test_the_rate_falls_from_the_peak(full: Ran) -> None:
    rates = full.recorder.series("learning_rate")
    assert rates[0] == pytest.approx(full.job.settings.learning_rate)
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0] / 2


# ---- adapters, bfloat16, dropout, checkpointing, accumulation


@pytest.fixture(scope="module")
def lora(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    settings = {"enabled": True, "r": 4, "alpha": 32, "dropout": 0.1}
    job = make_job(
        tmp_path_factory.mktemp("lora"),
        tiny,
        lora=settings,
        bf16=True,
        dropout=0.1,
        gradient_checkpointing=True,
        batch_size=8,
        micro_batch_size=4,
        schedule="linear",
        warmup_ratio=0.5,
        learning_rate=2e-2,
        epochs=2,
    )
    return run(job)


def test_an_adapter_run_publishes_a_plain_merged_model(lora: Ran, tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert lora.error is None, lora.error
    before, after = weights(tiny), weights(lora.job.output)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert sorted(path.name for path in lora.job.output.glob("adapter*")) == []
    model = AutoModelForCausalLM.from_pretrained(lora.job.output)
    ids = AutoTokenizer.from_pretrained(lora.job.output)("Score: 4", return_tensors="pt").input_ids
    assert model(ids).logits.isfinite().all()
    assert (lora.job.output / "config.json").read_bytes() == (tiny / "config.json").read_bytes()


def test_a_batch_that_is_not_full_still_steps_and_warm_up_rises(lora: Ran) -> None:
    assert lora.recorder.of("start")[0]["total_steps"] == 4  # 11 pairs in batches of 8, twice
    rates = lora.recorder.series("learning_rate")
    assert rates[0] == 0 and rates[1] == pytest.approx(1e-2) and rates[2] == pytest.approx(2e-2)
    assert 1e-7 < rates[3] < 2e-2


def test_dropout_stays_out_of_the_reference(lora: Ran) -> None:
    """The rate is 0 at step 1, so only dropout and rounding part policy and reference there, and little."""
    assert lora.recorder.series("loss")[0] == pytest.approx(LN2, abs=0.05)


# ---- refusals


@pytest.fixture(scope="module")
def refused(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Jobs that cannot succeed, side by side."""
    few = make_job(tmp_path_factory.mktemp("few"), tiny, min_pairs=PAIR_COUNT)
    broken = make_tiny_model(tmp_path_factory.mktemp("models") / "M_1")
    overflow(broken)
    infinite = make_job(tmp_path_factory.mktemp("infinite"), broken)
    bare = make_job(tmp_path_factory.mktemp("bare"), tiny)
    bare.pairs.unlink()
    jobs = {"few": few, "infinite": infinite, "bare": bare}

    async def run_all() -> list[Ran]:
        return await asyncio.gather(*(attempt(job, Recorder(), asyncio.Event()) for job in jobs.values()))

    return dict(zip(jobs, asyncio.run(run_all()), strict=True))


def test_too_few_pairs_are_refused(refused: dict[str, Ran]) -> None:
    ran = refused["few"]
    assert isinstance(ran.error, TrainingError)
    assert "11 pairs can be trained on, of 12 drawn; 1 are longer than 256 tokens" in ran.error.message
    assert "train.min_pairs" in ran.error.hint
    assert ran.recorder.of("error")[0]["kind"] == "too_few_pairs"
    assert_nothing_left(ran)


def test_a_loss_that_is_not_finite_aborts(refused: dict[str, Ran]) -> None:
    ran = refused["infinite"]
    assert isinstance(ran.error, TrainingError)
    assert "loss is nan at step 1" in ran.error.message
    assert "train.learning_rate" in ran.error.hint
    assert ran.recorder.of("error")[0]["kind"] == "non_finite"
    assert_nothing_left(ran)


def test_what_nobody_foresaw_is_told_with_the_place_of_its_log(refused: dict[str, Ran]) -> None:
    ran = refused["bare"]
    assert isinstance(ran.error, TrainingError)
    assert "FileNotFoundError" in ran.error.message and "pairs.jsonl" in ran.error.message
    assert "log.txt" in ran.error.hint
    assert ran.recorder.of("error")[0]["kind"] == "crash"


# ---- ends from outside


def test_a_killed_child_leaves_no_checkpoint_and_says_so(tiny: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny, epochs=2000)
    ran = run(job, Recorder(react=("metric", lambda: kill_worker(job))))
    assert isinstance(ran.error, TrainingError)
    assert "was killed (SIGKILL)" in ran.error.message and "train.micro_batch_size" in ran.error.hint
    assert_nothing_left(ran)


def test_a_stop_ends_the_child(tiny: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny, epochs=2000)
    stop = asyncio.Event()
    ran = run(job, Recorder(react=("start", stop.set)), stop)
    assert isinstance(ran.error, Stopped)
    assert_nothing_left(ran)


def test_a_failure_of_the_listener_kills_the_child(tiny: Path, tmp_path: Path) -> None:
    """The database going away while metrics are stored must not leave a trainer running."""
    job = make_job(tmp_path, tiny, epochs=2000)

    def fail() -> None:
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError):
        run(job, Recorder(react=("too_long", fail)))
    assert workers(job) == []


def test_cancelling_the_parent_kills_the_child(tiny: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny, epochs=2000)

    async def cancel_early() -> None:
        task = asyncio.create_task(run_job(job, tmp_path / "job", Recorder(), asyncio.Event()))
        await until(lambda: any("selfreward.guard" not in process.cmdline() for process in workers(job)))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_early())
    assert workers(job) == []


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


# ---- the wire


def test_jobs_survive_the_way_through_a_file(tmp_path: Path) -> None:
    jobs: tuple[AnyJob, ...] = (
        make_job(tmp_path / "a", tmp_path / "M_1", beta=0.25, lora={"enabled": True}),
        SftJob(
            output=tmp_path / "M_1",
            fence=1,
            model=tmp_path / "M_0",
            examples=tmp_path / "examples.jsonl",
            settings=plain(SftSettings(epochs=3)),
            seed=4,
            work=tmp_path,
        ),
        ConvertJob(output=tmp_path / "M_1", fence=2, source="org/name", run_dir=tmp_path),
    )
    for job in jobs:
        assert read_job(write_job(job, tmp_path / "job")) == job


def test_a_line_still_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.read() == []
    EventWriter(path).emit("note", message="é")
    with path.open("a") as file:
        file.write('{"event": "do')
        file.flush()
        assert reader.read() == [{"event": "note", "message": "é"}]
        assert reader.read() == []
        file.write('ne"}\n')
    assert reader.read() == [{"event": "done"}]


def test_temporary_directories_of_two_owners_differ(tmp_path: Path) -> None:
    assert temporary_path(tmp_path / "M_2", 1) != temporary_path(tmp_path / "M_2", 2)
