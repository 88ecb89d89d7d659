"""A training that dies at any step and is started again ends with the weights of one that was left alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import SftSettings, TrainSettings
from selfreward.errors import TrainingError
from selfreward.training.checkpoint import MANIFEST, collect_garbage, read_manifest, verify
from selfreward.training.jobs import DpoJob, SftJob
from tests.integration.training_runs import Ran, TrainingJob, assert_nothing_left, run, weights
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.slow

ALWAYS = 1e-9
"""Minutes between two states: after every step."""
ROWS = 10
STEPS = 9
"""Three passes over ten rows in batches of four, the last of which is not full."""
VARYING = {"epoch"}
ADAPTERS = {"enabled": True, "r": 4, "alpha": 32, "dropout": 0.1}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that compete with anything else wait for one another far longer than they compute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "M_1")


def pairs() -> list[dict[str, Any]]:
    """Too long is the last one."""
    rows = [
        {
            "pair_id": number,
            "prompt": f"Name {number} uses of a paper clip.",
            "chosen": "yes " * (2 + number % 4) + f"because {number}",
            "rejected": "no " * (5 - number % 4) + f"because {number}",
        }
        for number in range(ROWS + 1)
    ]
    rows[-1]["chosen"] = "yes " * 400
    return rows


def examples() -> list[dict[str, Any]]:
    return [
        {
            "example_id": number,
            "input": f"Write {'a short ' * number}letter",
            "completion": f"Thanks, {number}!",
        }
        for number in range(ROWS)
    ]


def make_job(root: Path, model: Path, kind: str = "dpo", seed: int = 3, **changes: Any) -> TrainingJob:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "data.jsonl"
    rows = pairs() if kind == "dpo" else examples()
    path.write_text("\n".join(json.dumps(row) for row in rows))
    values = {
        "batch_size": 4,
        "micro_batch_size": 2,
        "epochs": 3,
        "learning_rate": 5e-3,
        "final_learning_rate": 1e-4,
        "max_length": 256,
        "save_minutes": ALWAYS,
    } | changes
    common: dict[str, Any] = {
        "model": model,
        "model_digest": "digest of M_1",
        "output": root / "models" / "M_2",
        "fence": 7,
        "seed": seed,
        "work": root / "work",
        "states": root,
    }
    if kind == "dpo":
        return DpoJob(**common, pairs=path, settings=TrainSettings.model_validate(values))
    return SftJob(**common, examples=path, settings=SftSettings.model_validate(values))


def die(job: TrainingJob, at: str) -> Ran:
    """Run the job up to a crash point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELFREWARD_CRASH_AT", at)
        ran = run(job)
    assert isinstance(ran.error, TrainingError) and ran.error.kind == "killed", ran.error
    return ran


def saved(job: TrainingJob) -> list[str]:
    """Names of all that is kept to go on from."""
    assert job.states is not None
    return sorted(path.name for path in job.states.glob("resume-*/*"))


def metrics(ran: Ran) -> dict[int, dict[str, float]]:
    return {event["step"]: event["values"] for event in ran.recorder.of("metric")}


def notes(ran: Ran) -> list[str]:
    return [event["message"] for event in ran.recorder.of("note")]


# Each kind and each way of training once: all four would take two minutes more and share all of the code.
WAYS = {
    "dpo": ("dpo", {"dropout": 0.1}),
    "sft with adapters": ("sft", {"lora": ADAPTERS, "gradient_checkpointing": True}),
}


@pytest.fixture(scope="module", params=list(WAYS))
def way(
    request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ran, Ran, Ran, Ran]:
    """A training left alone; the same killed at step 4, killed again after saving step 6, and finished."""
    kind, changes = WAYS[request.param]
    alone = run(make_job(tmp_path_factory.mktemp("alone"), tiny, kind, save_minutes=0, **changes))
    job = make_job(tmp_path_factory.mktemp("killed"), tiny, kind, **changes)
    first = die(job, "train:step:4")
    assert saved(job) == ["checkpoint-3"]
    second = die(job, "train:saved:3")
    assert saved(job) == ["checkpoint-6"]
    return alone, first, second, run(job)


def test_the_weights_are_bit_for_bit_those_of_a_training_left_alone(way: tuple[Ran, Ran, Ran, Ran]) -> None:
    import torch

    alone, _, _, last = way
    assert alone.result is not None and last.result is not None, (alone.error, last.error)
    expected, found = weights(alone.job.output), weights(last.job.output)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert last.result.digest == alone.result.digest
    assert verify(last.job.output, deep=True) == []


def test_every_attempt_tells_the_figures_of_a_training_left_alone(way: tuple[Ran, Ran, Ran, Ran]) -> None:
    alone, *attempts = way
    expected = metrics(alone)
    assert list(expected) == list(range(1, STEPS + 1))
    assert [list(metrics(ran)) for ran in attempts] == [[1, 2, 3, 4], [4, 5, 6], [7, 8, 9]]
    for ran in attempts:
        for step, values in metrics(ran).items():
            assert values == expected[step], step


def test_where_it_goes_on_is_told(way: tuple[Ran, Ran, Ran, Ran]) -> None:
    firsts = [(ran.recorder.of("start")[0]["first_step"], notes(ran)) for ran in way]
    assert firsts == [
        (1, []),
        (1, []),
        (4, [f"going on at step 4 of {STEPS}"]),
        (7, [f"going on at step 7 of {STEPS}"]),
    ]


def test_nothing_is_left_to_go_on_from_once_it_is_published(way: tuple[Ran, Ran, Ran, Ran]) -> None:
    for ran in way:
        assert ran.job.states is not None
        assert list(ran.job.states.glob("resume-*")) == []
        assert not list(ran.job.work.glob("checkpoint-*"))


def test_the_checkpoint_tells_what_it_was_made_from(way: tuple[Ran, Ran, Ran, Ran]) -> None:
    job, manifest = way[-1].job, read_manifest(way[-1].job.output)
    rows = [json.loads(line) for line in job.data.read_text().splitlines()]
    assert manifest is not None
    assert manifest.made_from == tuple(dict.fromkeys([job.origin(), job.origin(rows[:ROWS])]))


# ---- what cannot be gone on from


def state(job: TrainingJob) -> Path:
    assert job.states is not None
    [path] = job.states.glob("resume-*/checkpoint-*")
    return path


def test_a_damaged_state_is_not_used_and_one_of_other_data_is_not_met(tiny: Path, tmp_path: Path) -> None:
    """One after the other in one place: each child takes seconds to start."""
    job = make_job(tmp_path, tiny, epochs=1)
    die(job, "train:saved:2")
    assert "optimizer.pt" in {path.name for path in state(job).iterdir()}
    assert not (state(job) / "training_args.bin").exists(), "it is a pickle that nobody reads"
    optimizer = state(job) / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-1] + b"x")
    ran = die(job, "train:saved:1")
    assert list(metrics(ran)) == [1] and notes(ran) == []

    half = state(job).with_name("checkpoint-2")
    shutil.copytree(state(job), half)
    (half / MANIFEST).unlink()
    ran = die(job, "train:step:1")
    assert list(metrics(ran)) == [2], "from the complete state, although the other has a higher number"
    assert saved(job) == ["checkpoint-1"]

    ran = die(make_job(tmp_path, tiny, epochs=1, seed=4), "train:step:1")
    assert list(metrics(ran)) == [1]
    assert saved(job) == [], "of another seed"


def test_less_memory_a_step_goes_on_with_the_same_training(tiny: Path, tmp_path: Path) -> None:
    """What is done after running out of memory."""
    job = make_job(tmp_path, tiny, epochs=1)
    die(job, "train:saved:2")
    ran = run(make_job(tmp_path, tiny, epochs=1, micro_batch_size=1))
    assert ran.error is None and list(metrics(ran)) == [3]


def test_without_room_the_training_goes_on_and_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: the child cannot be given a small disk."""
    from selfreward.training.dpo import train_dpo
    from selfreward.training.events import EventReader, EventWriter

    job = make_job(tmp_path, tiny, epochs=1)
    assert isinstance(job, DpoJob)
    usage = shutil.disk_usage(tmp_path)
    size = (tiny / "model.safetensors").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * size))
    train_dpo(job, EventWriter(tmp_path / "events.jsonl"))
    told = [
        event["message"]
        for event in EventReader(tmp_path / "events.jsonl").read()
        if event["event"] == "note"
    ]
    assert len(told) == 1 and "its state is not saved" in told[0] and "are needed" in told[0]
    assert verify(job.output, deep=True) == []


def test_a_training_that_saves_nothing_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny, save_minutes=0)
    ran = die(job, "train:step:5")
    assert saved(job) == []
    collect_garbage(job.output.parent)
    assert_nothing_left(ran)
