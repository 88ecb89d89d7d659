"""What every trainer owes the daemon, the real ones and the fake one alike; and what the fake one adds."""

import asyncio
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import RewardSettings, SftSettings, TrainSettings
from selfreward.errors import TrainingError
from selfreward.training.checkpoint import read_manifest, verify, write_manifest
from selfreward.training.jobs import DpoJob, RankJob, RewardJob, RlJob, SftJob
from tests.integration.training_runs import (
    Ran,
    Recorder,
    TrainingJob,
    assert_nothing_left,
    attempt,
    job_directory,
    kill_worker,
    run,
    weights,
    workers,
)
from tests.tiny_model import make_tiny_model

ROWS, TOO_LONG, EPOCHS = 6, 2, 2
STEPS = EPOCHS * math.ceil((ROWS - 1) / 2)
SETTINGS = {
    "batch_size": 2,
    "micro_batch_size": 2,
    "learning_rate": 1e-3,
    "epochs": EPOCHS,
    "max_length": 128,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """M_t, with its manifest."""
    directory = make_tiny_model(tmp_path_factory.mktemp("models") / "M_t")
    write_manifest(directory)
    return directory


def dpo(root: Path, model: Path, pairs: int = ROWS, seed: int = 3, **changes: Any) -> DpoJob:
    rows = [
        {"pair_id": n, "prompt": f"Name {n} uses.", "chosen": f"yes {n}", "rejected": f"no {n}"}
        for n in range(pairs)
    ]
    rows[TOO_LONG]["chosen"] = "yes " * 200
    _write(root / "rows.jsonl", rows)
    settings = TrainSettings.model_validate(SETTINGS | changes)
    return DpoJob(pairs=root / "rows.jsonl", settings=settings, **_common(root, model, seed))


def sft(root: Path, model: Path, **changes: Any) -> SftJob:
    rows = [{"example_id": n, "input": f"Name {n} uses.", "completion": f"yes {n}"} for n in range(ROWS)]
    rows[TOO_LONG]["input"] = "name " * 200
    _write(root / "rows.jsonl", rows)
    settings = SftSettings.model_validate(SETTINGS | changes)
    return SftJob(examples=root / "rows.jsonl", settings=settings, **_common(root, model, 3))


def rank(root: Path, model: Path, **changes: Any) -> RankJob:
    rows = [
        {
            "prompt_id": n,
            "prompt": "name " * (200 if n == TOO_LONG else 1),
            "candidates": [
                {"candidate_id": 3 * n + score, "text": f"yes {score}", "score": score} for score in range(3)
            ],
        }
        for n in range(ROWS)
    ]
    _write(root / "rows.jsonl", rows)
    settings = TrainSettings.model_validate(SETTINGS | {"objective": "rrhf"} | changes)
    return RankJob(groups=root / "rows.jsonl", settings=settings, **_common(root, model, 3))


def reward(root: Path, model: Path, **changes: Any) -> RewardJob:
    dpo(root, model)  # its pairs
    settings = RewardSettings.model_validate(SETTINGS | changes)
    return RewardJob(pairs=root / "rows.jsonl", settings=settings, **_common(root, model, 3))


def rl(root: Path, model: Path, **changes: Any) -> RlJob:
    rows = [{"prompt_id": n, "prompt": "name " * (200 if n == TOO_LONG else 1)} for n in range(ROWS)]
    _write(root / "rows.jsonl", rows)
    settings = TrainSettings.model_validate(SETTINGS | {"objective": "rl"} | changes)
    return RlJob(prompts=root / "rows.jsonl", settings=settings, **_common(root, model, 3))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))


def _common(root: Path, model: Path, seed: int) -> dict[str, Any]:
    manifest = read_manifest(model)
    return {
        "model": model,
        "model_digest": manifest.digest if manifest else "",
        "output": root / "models" / "M_next",
        "fence": 7,
        "seed": seed,
        "work": root / "work",
        "states": root / "states",
    }


def fake(root: Path, model: Path, **changes: Any) -> DpoJob:
    return dpo(root, model, type="fake", **changes)


# ---- both


@pytest.fixture(scope="module")
def results(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Every kind of training by the fake trainer, three of them by the real ones, side by side."""
    root = tmp_path_factory.mktemp("contract")
    jobs: dict[str, TrainingJob] = {}
    for kind in ("trl", "fake"):
        jobs[f"{kind} dpo"] = dpo(root / f"{kind}_dpo", model, type=kind)
        jobs[f"{kind} sft"] = sft(root / f"{kind}_sft", model, type=kind)
        jobs[f"{kind} rank"] = rank(root / f"{kind}_rank", model, type=kind)
    jobs["fake reward"] = reward(root / "fake_reward", model, type="fake")
    jobs["fake rl"] = rl(root / "fake_rl", model, type="fake")

    async def run_all() -> list[Ran]:
        return await asyncio.gather(*(attempt(job, Recorder(), asyncio.Event()) for job in jobs.values()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # two trainings with threads wait longer than they compute
        return dict(zip(jobs, asyncio.run(run_all()), strict=True))


DID = ["trl dpo", "fake dpo", "trl sft", "fake sft", "trl rank", "fake rank", "fake reward", "fake rl"]
NAMES = {"dpo": "pairs", "sft": "examples", "rank": "prompts", "reward": "pairs", "rl": "prompts"}
OWN = {
    "dpo": {"rewards/margins", "rewards/accuracies"},
    "sft": {"mean_token_accuracy"},
    "rank": {"rewards/margins", "rewards/accuracies"},
    "reward": {"rewards/margins", "rewards/accuracies"},
    "rl": {"reward", "kl"},
}


@pytest.fixture(params=DID)
def ran(request: pytest.FixtureRequest, results: dict[str, Ran]) -> Ran:
    return results[request.param]


@pytest.mark.slow
def test_events_tell_the_story_in_order(ran: Ran) -> None:
    assert ran.error is None, ran.error
    assert [event["event"] for event in ran.recorder.events] == [
        "too_long",
        "start",
        *["metric"] * STEPS,
        "done",
    ]
    [left_out] = ran.recorder.of("too_long")
    [ids] = left_out.keys() - {"event"}
    if ids == "candidate_ids":
        assert left_out[ids] == [3 * TOO_LONG + score for score in range(3)]
    else:
        assert left_out[ids] == [TOO_LONG]
    [start] = ran.recorder.of("start")
    assert (start["first_step"], start["total_steps"], start[NAMES[ran.job.kind]]) == (1, STEPS, ROWS - 1)
    assert start["device"] and start["versions"]
    assert [event["step"] for event in ran.recorder.of("metric")] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_each_step_has_its_figures(ran: Ran) -> None:
    for name in {"loss", "learning_rate", "grad_norm"} | OWN[ran.job.kind]:
        assert all(math.isfinite(value) for value in ran.recorder.series(name)), name
    if margins := ran.recorder.series("rewards/margins") if "rewards/margins" in OWN[ran.job.kind] else []:
        assert margins[-1] > margins[0], "it learns"
    if ran.job.kind == "dpo":
        assert ran.recorder.series("loss")[0] == pytest.approx(math.log(2), abs=1e-3)
        assert ran.recorder.series("rewards/margins")[0] == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_the_checkpoint_is_complete_and_new_and_says_what_it_is_made_from(ran: Ran, model: Path) -> None:
    output, before = ran.job.output, read_manifest(model)
    assert verify(output, deep=True) == []
    manifest = read_manifest(output)
    assert manifest is not None and before is not None and ran.result is not None
    assert manifest.digest == ran.result.digest != before.digest
    assert manifest.may_come_from(ran.job.origin()) and not manifest.may_come_from("something else")
    assert manifest.files.keys() == before.files.keys()
    changed = {name for name, entry in manifest.files.items() if entry != before.files[name]}
    headed = {"config.json"} if ran.job.kind == "reward" else set()
    assert changed == {"model.safetensors"} | headed


@pytest.mark.slow
def test_nothing_else_is_left_or_touched(ran: Ran, model: Path) -> None:
    assert verify(model, deep=True) == []
    assert [path.name for path in ran.job.output.parent.iterdir()] == ["M_next"]
    assert workers(ran.job) == []
    assert not (job_directory(ran.job) / "scratch").exists()
    assert ran.job.states is not None and not list(ran.job.states.glob("*"))


@pytest.mark.slow
def test_transformers_loads_what_came_out(ran: Ran, model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    before, after = weights(model), weights(ran.job.output)
    head = {"score.weight"} if ran.job.kind == "reward" else set()
    assert after.keys() == before.keys() | head
    assert all(after[name].dtype == torch.bfloat16 and after[name].isfinite().all() for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    form = AutoModelForSequenceClassification if head else AutoModelForCausalLM
    loaded, told = form.from_pretrained(ran.job.output, local_files_only=True, output_loading_info=True)
    assert not told["missing_keys"]
    logits = loaded(torch.tensor([[1, 2, 3]])).logits
    assert logits.isfinite().all() and (not head or logits.shape == (1, 1))


# ---- the fake one


def digest_of(job: TrainingJob) -> str:
    result = run(job).result
    assert result is not None
    return result.digest


def test_the_same_training_makes_the_same_checkpoint_and_any_other_another(
    model: Path, tmp_path: Path
) -> None:
    first = digest_of(fake(tmp_path / "first", model))
    split = {"micro_batch_size": 1, "fake_args": {"step_seconds": 0.001}, "save_minutes": 0}
    assert digest_of(fake(tmp_path / "again", model, **split)) == first, "how it ran makes no difference"
    other = Path(shutil.copytree(tmp_path / "first" / "models" / "M_next", tmp_path / "other"))
    others = {
        digest_of(fake(tmp_path / "seed", model, seed=4)),
        digest_of(fake(tmp_path / "pairs", model, pairs=ROWS + 1)),
        digest_of(fake(tmp_path / "beta", model, beta=0.3)),
        digest_of(fake(tmp_path / "model", other)),
    }
    assert len(others | {first}) == 5


def test_a_training_that_was_killed_goes_on_from_its_last_state(model: Path, tmp_path: Path) -> None:
    slow = {"save_minutes": 1e-6, "fake_args": {"step_seconds": 0.1}}
    job = fake(tmp_path / "killed", model, **slow)
    killed = run(job, Recorder(react=("metric", lambda: kill_worker(job))))
    assert isinstance(killed.error, TrainingError) and killed.error.kind == "killed"
    job.output.parent.mkdir(exist_ok=True)
    again = run(job)
    first = again.recorder.of("start")[0]["first_step"]
    assert first > 1
    assert [event["step"] for event in again.recorder.of("metric")] == list(range(first, STEPS + 1))
    assert again.result is not None
    assert again.result.digest == digest_of(fake(tmp_path / "undisturbed", model))


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ({"largest_micro_batch": 1}, "out_of_memory", "train.micro_batch_size"),
        ({"fail_at_step": 2}, "crash", "failing at step 2, as told"),
        ({"non_finite_at": 2}, "non_finite", "loss is nan at step 2"),
        ({"colour": "red"}, "crash", "train.fake_args: colour: "),
    ],
)
def test_it_fails_as_told(
    model: Path, tmp_path: Path, behaviour: dict[str, Any], kind: str, words: str
) -> None:
    ran = run(fake(tmp_path, model, fake_args=behaviour))
    assert isinstance(ran.error, TrainingError) and ran.error.kind == kind
    assert words in str(ran.error)
    ran.job.output.parent.mkdir(exist_ok=True)
    assert_nothing_left(ran)


def test_too_few_pairs_are_refused(model: Path, tmp_path: Path) -> None:
    ran = run(fake(tmp_path, model, min_pairs=ROWS))
    assert isinstance(ran.error, TrainingError) and ran.error.kind == "too_few_pairs"
    assert f"{ROWS - 1} pairs can be trained on, of {ROWS}; 1 are longer than 128 tokens" in ran.error.message


def test_it_does_without_torch(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(fake(tmp_path / "run", model)).error is None
