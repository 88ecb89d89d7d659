"""What every trainer owes, of those whose losses TRL lacks: adapters, going on after a stop, refusing NaN.

In this process where nothing has to die: a child takes longer to start than to train.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import TrainSettings
from selfreward.training.checkpoint import read_manifest, verify
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import DpoJob, RankJob
from selfreward.training.worker import RUN
from tests.integration.training_runs import overflow, weights
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.slow
SETTINGS = {
    "batch_size": 2,
    "micro_batch_size": 1,
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-4,
    "max_length": 128,
    "epochs": 2,
    "save_minutes": 1e-9,
}
ROWS = 5
KINDS = ("cdpo", "slic", "rrhf")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two trainings must agree."""
    import torch

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "M_t")


def make_job(kind: str, root: Path, model: Path, **changes: Any) -> DpoJob | RankJob:
    root.mkdir(parents=True)
    path = root / "rows.jsonl"
    path.write_text("".join(json.dumps(row(kind, number)) + "\n" for number in range(ROWS)))
    common: dict[str, Any] = {
        "model": model,
        "output": root / "models" / "M_next",
        "fence": 1,
        "seed": 3,
        "work": root / "work",
        "states": root / "states",
        "settings": TrainSettings.model_validate(SETTINGS | {"objective": kind} | changes),
    }
    return RankJob(groups=path, **common) if kind == "rrhf" else DpoJob(pairs=path, **common)


def row(kind: str, number: int) -> dict[str, Any]:
    asked = {"prompt": f"Name {number} uses of a paper clip."}
    texts = ("yes " * (1 + number), "no", "perhaps not")
    if kind == "rrhf":
        ranked = [
            {"candidate_id": 3 * number + n, "text": text, "score": 5 - 2 * n} for n, text in enumerate(texts)
        ]
        return asked | {"prompt_id": number, "candidates": ranked[: 2 + number % 2]}
    pair = asked | {"pair_id": number, "chosen": texts[0], "rejected": texts[1]}
    return pair | ({"soft_label": 0.8} if kind == "cdpo" else {"reference": texts[2]} if number % 2 else {})


class Stopped(BaseException):
    """In place of a kill."""


class Writer(EventWriter):
    """Keeps what is told, and stops the training when it tells of a step."""

    def __init__(self, path: Path, stop_at: int = 0) -> None:
        super().__init__(path)
        self.steps: list[int] = []
        self._stop_at = stop_at

    def emit(self, event: str, **fields: Any) -> None:
        super().emit(event, **fields)
        if event == "metric":
            self.steps.append(fields["step"])
            if fields["step"] == self._stop_at:
                raise Stopped


Train = Callable[..., Writer]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(job: DpoJob | RankJob, stop_at: int = 0) -> Writer:
        writer = Writer(tmp_path / "events.jsonl", stop_at)
        RUN[job.kind](job, writer)
        return writer

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_trained_and_merged(kind: str, tiny: Path, tmp_path: Path, train: Train) -> None:
    import torch

    changes = {"lora": {"enabled": True, "r": 4}, "gradient_checkpointing": True, "dropout": 0.1}
    job = make_job(kind, tmp_path / "lora", tiny, **changes)
    assert train(job).steps == list(range(1, 7))
    assert verify(job.output, deep=True) == []
    before, after = weights(tiny), weights(job.output)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_stopped_comes_to_the_same(
    kind: str, tiny: Path, tmp_path: Path, train: Train
) -> None:
    whole, stopped = (make_job(kind, tmp_path / name, tiny) for name in ("whole", "stopped"))
    train(whole)
    with pytest.raises(Stopped):
        train(stopped, stop_at=3)
    assert train(stopped).steps == [3, 4, 5, 6]
    digests = [manifest.digest for job in (whole, stopped) if (manifest := read_manifest(job.output))]
    assert len(digests) == 2 and len(set(digests)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_refused(kind: str, tmp_path: Path, train: Train) -> None:
    model = make_tiny_model(tmp_path / "broken")
    overflow(model)
    job = make_job(kind, tmp_path / "run", model)
    with pytest.raises(JobFailed, match="at step 1 of 6") as failed:
        train(job)
    assert failed.value.kind == "non_finite" and "train.learning_rate" in failed.value.hint
    assert not job.output.exists()
