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
    DpoJob,
    RankJob,
    RewardJob,
    RlJob,
    SftJob,
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


def _run_dpo(job: DpoJob, events: EventWriter) -> str:
    from selfreward.training.dpo import train_dpo
    from selfreward.training.machine import use_all_cores

    use_all_cores()
    return train_dpo(job, events)


def _run_sft(job: SftJob, events: EventWriter) -> str:
    from selfreward.training.machine import use_all_cores
    from selfreward.training.sft import train_sft

    use_all_cores()
    return train_sft(job, events)


def _run_rank(job: RankJob, events: EventWriter) -> str:
    from selfreward.training.machine import use_all_cores
    from selfreward.training.rank import train_rank

    use_all_cores()
    return train_rank(job, events)


def _run_reward(job: RewardJob, events: EventWriter) -> str:
    from selfreward.training.machine import use_all_cores
    from selfreward.training.reward import train_reward

    use_all_cores()
    return train_reward(job, events)


def _run_rl(job: RlJob, events: EventWriter) -> str:
    from selfreward.training.machine import use_all_cores
    from selfreward.training.rl import train_rl

    use_all_cores()
    return train_rl(job, events)


def _run_convert(job: ConvertJob, events: EventWriter) -> str:
    from selfreward.training.convert import convert

    return convert(job, events)


RUN: dict[str, Function] = {
    "dpo": _run_dpo,
    "rank": _run_rank,
    "sft": _run_sft,
    "reward": _run_reward,
    "rl": _run_rl,
    "convert": _run_convert,
}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
