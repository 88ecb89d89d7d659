"""The child process: `python -m selfreward.training.worker job.json`. Exits 0 only after `done`.

Each kind of job is a function that takes the job and a writer of events and returns the digest of
the checkpoint it has published. Torch and its friends are imported only after the environment is set.
"""

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from selfreward.training.checkpoint import temporary_path
from selfreward.training.events import EVENTS_FILE, EventWriter
from selfreward.training.failures import explain
from selfreward.training.jobs import (
    SCRATCH,
    AnyJob,
    AnyTraining,
    ConvertJob,
    read_job,
)
from selfreward.training.trackers import environment

Function = Callable[[Any, EventWriter], str]


def main(job_path: Path) -> int:
    """Run the job in `job_path`; its events go to the directory it is in."""
    job = read_job(job_path)
    events = EventWriter(job_path.parent / EVENTS_FILE)
    scratch = job_path.parent / SCRATCH
    scratch.mkdir(exist_ok=True)
    _prepare_environment(scratch, offline=job.kind != "convert")
    if job.kind != "convert":
        os.environ.update(environment(job.settings.report_to, job_path.parent, os.environ))
    try:
        digest = _function(job)(job, events)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        failure = explain(error, job.output.parent, job.section)
        shutil.rmtree(temporary_path(job.output, job.fence), ignore_errors=True)
        events.emit("error", kind=failure.kind, message=failure.message, hint=failure.hint)
        return 1
    events.emit("done", digest=digest, path=str(job.output))
    return 0


def _prepare_environment(scratch: Path, offline: bool) -> None:
    """Settle what the libraries read when they are imported."""
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1", TOKENIZERS_PARALLELISM="false")
    if offline:
        os.environ.update(HF_HUB_OFFLINE="1")
    if not sys.stdout.isatty():
        os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
    # TRL takes one GPU a process and refuses when it sees more.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)


def _function(job: AnyJob) -> Function:
    if job.kind != "convert" and job.settings.type == "fake":
        return _run_fake
    return RUN[job.kind]


def _run_fake(job: AnyTraining, events: EventWriter) -> str:
    from selfreward.training.fake import train_fake

    return train_fake(job, events)


def _with_torch(name: str) -> Function:
    """`train_NAME` of the module NAME, which loads torch: imported when its job is run and not before."""

    def run(job: AnyTraining, events: EventWriter) -> str:
        from selfreward.training.machine import use_all_cores

        use_all_cores()
        train = getattr(import_module(f"selfreward.training.{name}"), f"train_{name}")
        return str(train(job, events))

    return run


def _run_convert(job: ConvertJob, events: EventWriter) -> str:
    from selfreward.training.convert import convert

    return convert(job, events)


RUN: dict[str, Function] = {
    "dpo": _with_torch("dpo"),
    "rank": _with_torch("rank"),
    "sft": _with_torch("sft"),
    "reward": _with_torch("reward"),
    "rl": _with_torch("rl"),
    "convert": _run_convert,
}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
