"""Fixtures of the integration tests: a tiny model made once, and runs that leave no process behind."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selfreward.training.checkpoint import write_manifest
from tests.integration.daemon_driver import Run
from tests.tiny_model import make_tiny_model

MakeRun = Callable[..., Run]

LONGEST = ("test_end_to_end", "test_engines", "test_resume_training", "test_bootstrap", "test_no_survivors")
"""The files that take longest come first: two at a time then end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first; for xdist's --no-loadscope-reorder."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def converted_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model as a checkpoint: a run that finds it as models/M_1 takes it over."""
    directory = tmp_path_factory.mktemp("converted") / "M_1"
    shutil.copytree(tiny_model, directory)
    write_manifest(directory)
    return directory


@pytest.fixture
def make_run(tmp_path: Path, tiny_model: Path, converted_model: Path) -> Iterator[MakeRun]:
    """Makes runs; whatever they still have running in the end is killed."""
    runs: list[Run] = []

    def make(latency: float = 0.0, name: str = "run", converted: bool = True) -> Run:
        runs.append(Run(tmp_path / name, tiny_model, latency))
        if converted:
            shutil.copytree(converted_model, runs[-1].directory / "models" / "M_1")
        return runs[-1]

    yield make
    for run in runs:
        run.close()
