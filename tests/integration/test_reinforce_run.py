"""Runs that learn by reinforcement, on fake engine and fake trainer: who works beside whom, and who dies."""

import contextlib
import json
import os
import signal
from typing import Any

import psutil

from selfreward.training.checkpoint import verify
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import MARK, Run

STEPS = 60
"""Six prompts in batches of two answers, twenty passes: what the fake trainer makes of it."""
OBJECTIVE = """[train]
objective = "rl"
epochs = 20
save_minutes = 1e-9
"""
REST = """
[train.rl]
reward = "{reward}"
generations = 2
max_prompts = {prompts}
[train.fake_args]
step_seconds = {seconds}
[daemon]
engine_restarts = 0
"""


def reinforcing(make_run: MakeRun, reward: str = "judge", seconds: float = 0.0, prompts: int = 0) -> Run:
    run = make_run()
    text = run.settings.read_text().replace("[train]\n", OBJECTIVE, 1)
    rest = REST.format(reward=reward, seconds=seconds, prompts=prompts)
    run.settings.write_text(text.replace("[daemon]\n", rest, 1))
    return run


def engines(run: Run) -> list[psutil.Process]:
    """Fake engines of this run that are alive, without their guards."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            served = "selfreward.engines.fake_server" in line and "selfreward.guard" not in line
            if served and process.environ().get(MARK) == str(run.directory):
                found.append(process)
    return found


def attempts(run: Run, checkpoint: str = "M_2") -> list[dict[str, Any]]:
    """The job and the start of each attempt at training."""
    found = []
    for directory in sorted((run.directory / "jobs" / checkpoint).glob("attempt_*")):
        events = map(json.loads, (directory / "events.jsonl").read_text().splitlines())
        start = next((event for event in events if event["event"] == "start"), {})
        found.append(json.loads((directory / "job.json").read_text()) | {"start": start})
    return found


def steps(run: Run) -> list[int]:
    sql = "SELECT step FROM training_metric WHERE name = 'reward' GROUP BY step ORDER BY step"
    return [step for (step,) in run.rows(sql)]


def test_the_judge_beside_the_trainer_dies_and_both_go_on_where_they_were(make_run: MakeRun) -> None:
    """More often than daemon.engine_restarts = 0 allows where there is no progress in between."""
    run = reinforcing(make_run, seconds=0.03)
    daemon = run.start()
    for least in (2, 12):
        run.wait_for(lambda least=least: len(steps(run)) >= least and bool(engines(run)), "training")  # type: ignore[misc]
        [engine] = engines(run)
        engine.kill()
        engine.wait()
    assert daemon.wait() == 0, daemon.communicate()
    assert run.rows("SELECT name, kind FROM checkpoint ORDER BY name") == [("M_1", "base"), ("M_2", "rl")]
    assert verify(run.directory / "models" / "M_2", deep=True) == []
    assert steps(run) == list(range(1, STEPS + 1))
    tries = attempts(run)
    assert len(tries) == 3
    assert [attempt["start"]["first_step"] > 1 for attempt in tries] == [False, True, True]
    assert len({attempt["judge_url"] for attempt in tries}) > 1, "each time at another address"
    assert all("{{ response }}" in attempt["template"] for attempt in tries)
    assert {attempt["judge"]["type"] for attempt in tries} == {"rubric"}
    sessions = run.rows("SELECT count(*), count(DISTINCT checkpoint_id) FROM engine_session")
    assert sessions == [(4, 1)], "one wrote and judged, three gave rewards, M_1 all of them"
    assert run.count("event WHERE kind = 'engine_failed'") == 2
    run.wait_until_nobody_is_left()


def test_a_killed_daemon_leaves_nobody_and_the_next_one_goes_on(make_run: MakeRun) -> None:
    run = reinforcing(make_run, seconds=0.03, prompts=4)
    daemon = run.start()
    run.wait_for(lambda: len(steps(run)) >= 3, "training")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    run.wait_until_nobody_is_left()
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    first, second = attempts(run)
    assert second["start"]["first_step"] > 1
    assert steps(run) == list(range(1, 41)), "four of the prompts"
    told = run.directory / "jobs" / "M_2"
    assert len({(path / "prompts.jsonl").read_text() for path in told.glob("attempt_*")}) == 1
    assert first["reward_digest"] == second["reward_digest"] != ""


def test_a_reward_model_is_trained_first_and_gives_the_rewards(make_run: MakeRun) -> None:
    run = reinforcing(make_run, reward="reward_model")
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    rows = run.rows("SELECT name, kind, digest FROM checkpoint ORDER BY name")
    assert [row[:2] for row in rows] == [("M_1", "base"), ("M_2", "rl"), ("R_1", "reward")]
    [attempt] = attempts(run)
    assert attempt["reward_model"] == str(run.directory / "models" / "R_1")
    assert attempt["reward_digest"] == rows[2][2]
    assert attempt["judge_url"] == ""
    assert run.count("engine_session") == 1, "no engine beside the trainer"
