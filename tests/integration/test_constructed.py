"""Every objective makes the better answer likelier, or better rewarded, on requests it has not seen.

In this process: a child takes longer to start than such a task to learn. That a job learns the same in the
worker, test_trainer_contract says; `python -m tests.methods.constructed` does all of this there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.methods.constructed import (
    OBJECTIVES,
    Task,
    in_process,
    measure,
    measure_rewards,
    untrained_reward_model,
)

pytestmark = pytest.mark.slow
REWARD = "reward_model"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A tiny model has nothing to share out, and the machine may be at work on other tests."""
    import torch

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Task:
    return Task(tmp_path_factory.mktemp("constructed"), in_process)


@pytest.fixture(scope="module")
def reward_model(task: Task) -> Path:
    return task.train(REWARD, OBJECTIVES[REWARD])


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != REWARD])
def test_an_objective_raises_the_margin_of_the_better_answer(
    name: str, task: Task, reward_model: Path
) -> None:
    before = measure(task.model)
    shorter = {"epochs": 2} if name.startswith("rl") else {}
    after = measure(task.train(name, OBJECTIVES[name] | shorter, reward_model))
    assert before.right is not None and after.right is not None
    assert after.margin > before.margin + 0.1
    assert after.right > before.right


def test_a_reward_model_tells_the_better_answer(task: Task, reward_model: Path, tmp_path: Path) -> None:
    before = measure_rewards(untrained_reward_model(task.model, tmp_path), task.model)
    after = measure_rewards(reward_model, task.model)
    assert after.margin > max(0, before.margin) + 0.1
