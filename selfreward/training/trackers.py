"""Trackers that a training is reported to (`train.report_to`): which there are, and where they write.

They run in the training's own process. What they write goes into its job's directory and stays on this
machine, unless the environment says otherwise. Standard library and settings only: the daemon imports this.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from selfreward.config import Settings, TrainerSettings
from selfreward.errors import BadInput

PROJECT = "selfreward"


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """A program that training curves can be sent to."""

    modules: tuple[str, ...]
    """Any of these must be installed."""
    environment: Mapping[str, str]
    """Where it writes, {job} standing for the job's directory. What the user has set is left alone."""
    view: str
    """The command that shows what it wrote, from the run's directory."""


TRACKERS: Mapping[str, Tracker] = {
    "tensorboard": Tracker(
        modules=("tensorboard", "tensorboardX"),
        environment={"TENSORBOARD_LOGGING_DIR": "{job}/tensorboard"},
        view="tensorboard --logdir jobs",
    ),
    "wandb": Tracker(
        modules=("wandb",),
        environment={"WANDB_DIR": "{job}", "WANDB_MODE": "offline", "WANDB_PROJECT": PROJECT},
        view="wandb sync jobs/*/*/wandb/offline-run-*",
    ),
    "mlflow": Tracker(
        modules=("mlflow",),
        environment={
            "MLFLOW_TRACKING_URI": "sqlite:///{job}/mlflow.db",
            "MLFLOW_EXPERIMENT_NAME": PROJECT,
        },
        view="mlflow ui --backend-store-uri sqlite:///jobs/M_2/attempt_1/mlflow.db",
    ),
    "trackio": Tracker(
        modules=("trackio",),
        environment={"TRACKIO_DIR": "{job}/trackio"},
        view="TRACKIO_DIR=jobs/M_2/attempt_1/trackio trackio show",
    ),
}


def wanted(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Setting → trackers that the trainings of a run are to report to."""
    trainings: dict[str, TrainerSettings] = {"train.report_to": settings.train}
    if settings.bootstrap.mode == "sft":
        trainings["bootstrap.sft.report_to"] = settings.bootstrap.sft
    return {key: training.report_to for key, training in trainings.items() if training.type == "trl"}


def missing(names: Sequence[str]) -> list[str]:
    """Those that are known and not installed. Nothing is imported."""
    return [
        name for name in names if name in TRACKERS and not any(map(_is_installed, TRACKERS[name].modules))
    ]


def require(settings: Settings) -> None:
    """Raise BadInput unless every tracker is known and installed: hours later would be too late."""
    for key, names in wanted(settings).items():
        if unknown := [name for name in names if name not in TRACKERS]:
            raise BadInput(f"{key}: there is no tracker {unknown[0]!r}", f"There are: {', '.join(TRACKERS)}.")
        if absent := missing(names):
            raise BadInput(
                f"{key} names {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed",
                f"Install it where selfreward is: pip install {' '.join(absent)}. Or leave it out.",
            )


def environment(names: Sequence[str], job_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What the training's environment lacks for these trackers."""
    return {name: value for name, value in _wished(names, job_dir) if name not in environ}


def _wished(names: Sequence[str], job_dir: Path) -> Iterator[tuple[str, str]]:
    for name in names:
        for key, value in TRACKERS[name].environment.items() if name in TRACKERS else ():
            yield key, value.replace("{job}", str(job_dir.resolve()))


def _is_installed(module: str) -> bool:
    """A directory of that name, as trackers leave them, is no package."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None
