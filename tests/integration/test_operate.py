"""A daemon beside other programs: its log, systemd, a web address, a tracker."""

import json
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import TrainSettings
from selfreward.training.jobs import DpoJob
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run
from tests.integration.training_runs import job_directory
from tests.integration.training_runs import run as run_training
from tests.webhook import SECRET, webhook

LATENCY_S = 0.5
NO_TRAINING = ("--set", "train.min_pairs=1000")


def log_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_a_daemons_log_is_json_with_run_iteration_and_stage(make_run: MakeRun) -> None:
    run = make_run()
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    lines = log_lines(done.stderr)
    assert all({"event", "level", "timestamp", "run", "iteration", "stage"} <= line.keys() for line in lines)
    assert {line["run"] for line in lines} == {"main"}
    places = {(line["iteration"], line["stage"]) for line in lines}
    assert places >= {(1, name) for name in ("self_instruct", "sample", "judge", "pair", "train")}
    [trainer] = [line for line in lines if line["event"].startswith("starting the trainer")]
    assert (trainer["iteration"], trainer["stage"]) == (1, "train")


def test_why_a_daemon_left_is_the_last_line_of_its_log(make_run: MakeRun) -> None:
    run = make_run()
    quiet = {"SELFREWARD_LOG_LEVEL": "warning"}
    failed = run.command("start", *NO_TRAINING, **quiet)
    assert failed.returncode == 1
    lines = log_lines(failed.stderr)
    assert {line["level"] for line in lines} <= {"warning", "error"}
    assert lines[-1]["level"] == "error" and "too few to train on" in lines[-1]["event"]
    assert (lines[-1]["run"], lines[-1]["iteration"]) == ("main", 1)
    assert "self_instruct.target" in lines[-1]["hint"]


def test_a_detached_daemon_logs_json_into_its_file_and_says_in_words_why_it_did_not_start(
    make_run: MakeRun,
) -> None:
    run = make_run(latency=LATENCY_S)
    assert run.command("start", "--detach", *NO_TRAINING).returncode == 0
    busy = run.command("start", "--detach", *NO_TRAINING)
    assert busy.returncode != 0 and "this run is owned by" in busy.stderr and '"event"' not in busy.stderr
    run.command("stop")
    run.wait_until_nobody_is_left()
    lines = log_lines((run.directory / "logs" / "daemon.log").read_text())
    assert {"stage started"} <= {line["event"] for line in lines}


def test_systemd_is_told_ready_at_what_alive_and_stopping(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(latency=LATENCY_S)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        daemon = run.start(*NO_TRAINING, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC=str(300_000))
        told: list[str] = []
        while "STATUS=main, iteration 1, sample " not in "".join(told) or told.count("WATCHDOG=1") < 3:
            told.append(systemd.recv(4096).decode())
        assert told[0] == "READY=1" and run.count("lease WHERE released_at IS NULL") == 1
        daemon.send_signal(signal.SIGTERM)
        while told[-1] != "STOPPING=1":
            told.append(systemd.recv(4096).decode())
        assert daemon.wait(30) == 0


def test_a_web_address_hears_of_a_finished_iteration_and_of_a_failure(make_run: MakeRun) -> None:
    run = make_run()
    with webhook() as hook:
        environ = {"SELFREWARD_NOTIFY__URL": hook.url}
        assert run.command("start", **environ).returncode == 0
        [done] = hook.wait_for(1)
        assert (done["run"], done["iteration"], done["kind"]) == ("main", 1, "iteration")
        assert done["figures"]["self_instruct"] == 6 and done["figures"]["sample"] == 24
        assert run.command("start", "--iterations", "2", *NO_TRAINING, **environ).returncode == 2
        accepted = ("--iterations", "2", *NO_TRAINING, "--accept-changed-settings")
        failed = run.command("start", *accepted, **environ)
        assert failed.returncode == 1
        halted = hook.wait_for(2)[-1]
        assert (halted["kind"], halted["event"], halted["iteration"]) == ("failure", "halted", 2)
        assert "too few to train on" in halted["message"]
    assert_nowhere(run, failed.stderr)


def test_a_web_address_that_does_not_answer_is_an_event_and_stops_nothing(make_run: MakeRun) -> None:
    run = make_run()
    with webhook(404) as hook:
        done = run.command("start", SELFREWARD_NOTIFY__URL=hook.url)
        assert done.returncode == 0, done.stderr
    assert run.count("checkpoint") == 2
    [(message,)] = run.rows("SELECT message FROM event WHERE kind = 'notify_failed'")
    assert "status 404" in message
    assert_nowhere(run, done.stderr)


def assert_nowhere(run: Run, told: str) -> None:
    """The secret part of the address is in no file of the run and not in what was told."""
    assert SECRET not in told
    for path in run.directory.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_tensorboard_gets_the_figures_of_a_training(tmp_path: Path, converted_model: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [{"pair_id": n, "prompt": f"Name {n}.", "chosen": f"yes {n}", "rejected": "no"} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = tmp_path / "models" / "M_1"
    shutil.copytree(converted_model, model)
    settings = TrainSettings(
        batch_size=2, micro_batch_size=2, max_length=128, report_to=("tensorboard",), bf16=False
    )
    job = DpoJob(
        output=tmp_path / "models" / "M_2",
        fence=1,
        model=model,
        pairs=tmp_path / "rows.jsonl",
        settings=settings,
        work=tmp_path / "work",
    )
    ran = run_training(job)
    assert ran.error is None, ran.error
    [written] = (job_directory(job) / "tensorboard").glob("events.out.tfevents.*")
    found = EventAccumulator(str(written))
    found.Reload()
    losses = [point.value for point in found.Scalars("train/loss")]
    assert losses == pytest.approx(ran.recorder.series("loss")[: len(losses)]) and len(losses) == 2
