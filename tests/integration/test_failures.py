"""Parts that fail under a running daemon: it waits, asks for less, or rests and says why, and goes on."""

import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest

from tests.forked import Forked
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import DEADLINE_S, Run
from tests.integration.unkind import Spoken, behaving, events
from tests.postgres import server_of_its_own

PROMPTS, CANDIDATES, JUDGEMENTS = 6, 24, 72
COMPLETE = {
    "SELECT count(*) FROM prompt WHERE iteration_id = 1 AND status = 'accepted'": PROMPTS,
    "SELECT count(*) FROM candidate": CANDIDATES,
    "SELECT count(*) FROM judgement": JUDGEMENTS,
    "SELECT count(*) FROM checkpoint": 2,
    "SELECT count(DISTINCT setting_hash) FROM iteration": 1,
}
"""What a whole run leaves, once and only once: unique keys keep doubles out, the counts tell what is lost."""
SOON_S = 15.0
"""Time enough, on a slow machine, for a daemon that is asked to leave."""


def assert_complete(run: Run) -> None:
    assert {sql: run.number(sql) for sql in COMPLETE} == COMPLETE
    run.wait_until_nobody_is_left()


def finish(run: Run) -> None:
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    assert_complete(run)


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Another program's write transaction on the run's database."""
    with closing(sqlite3.connect(run.directory / "selfreward.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def leave(process: Forked, within_s: float = SOON_S) -> None:
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(within_s + 30) == 0
    assert time.monotonic() - begun < within_s


# --- the engine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["hang-after", "mute-after"])
def test_a_hanging_engine_is_replaced_and_the_run_completes(make_run: MakeRun, way: str) -> None:
    run = behaving(make_run(), fake=f"{way} = 20", engine="stall_timeout_s = 1")
    finish(run)
    assert events(run, "engine_stalled") and "hangs" in events(run, "engine_failed")[0]["message"]
    assert not events(run, "engine_backed_off"), "it got something done each time"


def test_an_engine_that_cannot_hold_the_batch_is_asked_for_less(make_run: MakeRun) -> None:
    run = behaving(make_run(), fake="largest-batch = 2", engine="max_num_seqs = 8")
    finish(run)
    assert "out of memory" in events(run, "engine_failed")[0]["message"]
    figures = [(event["max_num_seqs"], event["concurrency"]) for event in events(run, "engine_backed_off")]
    assert figures == [(4, 4), (2, 2)]
    [(body,)] = run.rows("SELECT body FROM setting")
    assert json.loads(body)["engine"]["max_num_seqs"] == 8, "the settings are what they were"


def test_an_engine_that_never_works_makes_the_daemon_rest_and_say_why(make_run: MakeRun) -> None:
    run = behaving(make_run(), fake="exit-at-start = 7", daemon="engine_restarts = 1")
    daemon = run.start()
    spoken = Spoken(daemon)
    told = spoken.until(lambda line: "selfreward resume" in line["event"])
    assert "ended with status 7" in told["event"]
    spoken.until_rest("engine")
    assert run.count("engine_session") == 2
    status = json.loads(run.command("status", "--json").stdout)
    assert status["running"] is True
    [paused] = [event for event in status["events"] if event["kind"] == "paused"]
    assert paused["data"]["reasons"] == ["engine"] and "ended with status 7" in paused["message"]
    assert run.command("resume").returncode == 0
    spoken.until_rest("engine")
    assert run.count("engine_session") == 4, "a user's resume gives it all its tries again"
    assert run.command("stop").returncode == 0
    assert daemon.wait(DEADLINE_S) == 0
    run.wait_until_nobody_is_left()


@pytest.mark.parametrize("victim", ["server", "guard"])
def test_an_engine_that_is_killed_from_outside_is_started_again(make_run: MakeRun, victim: str) -> None:
    run = make_run(latency=0.2)
    daemon = run.start()
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    guard, server = sorted(
        (
            process
            for process in psutil.Process(daemon.pid).children(recursive=True)
            if "selfreward.engines.fake_server" in process.cmdline()
        ),
        key=lambda process: "selfreward.guard" not in process.cmdline(),
    )
    (server if victim == "server" else guard).send_signal(signal.SIGKILL)
    assert daemon.wait(DEADLINE_S) == 0
    assert_complete(run)
    assert run.count("engine_session") == 2 and len(events(run, "engine_failed")) == 1
    assert not events(run, "engine_backed_off")


def test_items_that_always_fail_run_out_of_tries_and_the_rest_goes_on(make_run: MakeRun) -> None:
    # Which texts are poison is chance: among this many there are always some, and never all.
    run = behaving(
        make_run(),
        fake="poison = 4",
        daemon="max_attempts = 2",
        self_instruct="target = 12",
        train="min_pairs = 1",
    )
    daemon = run.start()
    run.wait_for(lambda: run.count("item_failure") >= 1, "a first failure")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    before = run.rows("SELECT stage_id, item_id, attempts FROM item_failure")
    run.wait_until_nobody_is_left()
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    after = {row[:2]: row[2] for row in run.rows("SELECT stage_id, item_id, attempts FROM item_failure")}
    assert all(after[stage, item] >= tries for stage, item, tries in before), "tries count across a restart"
    answered = {stage for (stage,) in run.rows("SELECT id FROM stage WHERE name IN ('sample', 'judge')")}
    # A request for prompts is not tried again once there are enough.
    assert {tries for (stage, _), tries in after.items() if stage in answered} == {2}, "as many as allowed"
    assert max(after.values()) == 2, "and no more"
    failed = run.number("SELECT count(*) FROM judgement WHERE status = 'failed'")
    assert 0 < failed < run.count("judgement")
    assert run.count("checkpoint") == 2


# --- the trainer --------------------------------------------------------------------------------------


def test_a_trainer_without_memory_gets_less_of_the_same_batch_at_once(make_run: MakeRun) -> None:
    sizes = "micro_batch_size = 8\nbatch_size = 8"
    run = behaving(make_run(), train=f"fake_args = {{ largest_micro_batch = 2 }}\n{sizes}")
    finish(run)
    halved = events(run, "micro_batch_halved")
    assert [(event["before"], event["micro_batch_size"], event["batch_size"]) for event in halved] == [
        (8, 4, 8),
        (4, 2, 8),
    ]
    assert run.rows("SELECT attempts, status FROM stage WHERE name = 'train'") == [(3, "done")]


def test_a_trainer_that_is_killed_is_started_again_with_less_at_once(make_run: MakeRun) -> None:
    run = behaving(make_run(), train="fake_args = { step_seconds = 0.3 }")
    daemon = run.start()
    run.wait_for(lambda: run.count("training_metric") > 0, "training")
    [worker] = [
        process
        for process in psutil.Process(daemon.pid).children(recursive=True)
        if "selfreward.training.worker" in process.cmdline() and "selfreward.guard" not in process.cmdline()
    ]
    worker.send_signal(signal.SIGKILL)
    assert daemon.wait(DEADLINE_S) == 0
    assert_complete(run)
    assert [event["micro_batch_size"] for event in events(run, "micro_batch_halved")] == [1]


# --- the database -------------------------------------------------------------------------------------


def test_a_database_that_stays_locked_is_rested_for_and_nothing_is_lost_or_twice(make_run: MakeRun) -> None:
    run = behaving(make_run(latency=0.2), daemon="database_patience_s = 1")
    daemon = run.start()
    spoken = Spoken(daemon)
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    with locked(run):
        spoken.until_rest("database")
        assert not [line for line in run.descendants() if "fake_server" in line], (
            "the engine's memory is freed"
        )
        assert run.command("status").returncode == 0, "who only reads is not kept away"
    spoken.until(lambda line: line["event"] == "going on")
    assert daemon.wait(DEADLINE_S) == 0
    assert_complete(run)
    [paused] = events(run, "paused")
    assert paused["reasons"] == ["database"] and "happened_at" in paused, "written down when it could be"
    assert len(events(run, "database")) == len(events(run, "resumed")) == 1


def test_a_database_that_is_locked_for_a_while_is_only_waited_for(make_run: MakeRun) -> None:
    run = make_run(latency=0.2)
    daemon = run.start()
    spoken = Spoken(daemon)
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    with locked(run):
        told = spoken.until(lambda line: "waiting for the database" in line["event"])
        assert "locked" in told["event"]
    assert daemon.wait(DEADLINE_S) == 0
    assert_complete(run)
    assert not events(run, "paused") and run.count("engine_session") == 1


def test_a_server_that_goes_away_and_comes_back_loses_nothing(make_run: MakeRun) -> None:
    with server_of_its_own() as server:
        run = behaving(make_run(latency=0.3), daemon="database_patience_s = 1")
        run.settings.write_text(run.settings.read_text() + f'[database]\nurl = "{server.uri}"\n')
        daemon = run.start()
        spoken = Spoken(daemon)
        spoken.until(lambda line: line["event"] == "the engine answers")
        server.stop()
        spoken.until_rest("database")
        server.start()
        spoken.until(lambda line: line["event"] == "going on")
        assert daemon.wait(DEADLINE_S) == 0
        [row] = run.json("select prompts, candidates, judgements, trained from iteration_summary")
        assert row == {
            "prompts": PROMPTS,
            "candidates": CANDIDATES,
            "judgements": JUDGEMENTS,
            "trained": "M_2",
        }


def test_a_run_that_was_taken_over_is_left_at_once(make_run: MakeRun) -> None:
    run = make_run(latency=0.5)
    daemon = run.start()
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    with closing(sqlite3.connect(run.directory / "selfreward.db", timeout=30)) as other, other:
        other.execute("UPDATE lease SET fence = fence + 1, owner = 'elsewhere:1'")
    written = run.count("judgement")
    assert daemon.wait(DEADLINE_S) == 4
    assert run.count("judgement") <= written + 4, "nothing is written by who does not own the run"
    run.wait_until_nobody_is_left()


# --- SIGTERM, at any moment ---------------------------------------------------------------------------


def test_sigterm_while_the_engine_starts(make_run: MakeRun) -> None:
    run = behaving(make_run(), fake="start-delay = 60")
    daemon = run.start()
    run.wait_for(lambda: run.count("engine_session") == 1, "the engine's start")
    leave(daemon)
    run.wait_until_nobody_is_left()


def test_sigterm_while_the_trainer_runs(make_run: MakeRun) -> None:
    run = behaving(make_run(), train="fake_args = { step_seconds = 30 }")
    daemon = run.start()
    run.wait_for(lambda: any("training.worker" in line for line in run.descendants()), "the trainer")
    leave(daemon)
    run.wait_until_nobody_is_left()


def test_sigterm_while_the_database_is_locked(make_run: MakeRun) -> None:
    run = behaving(make_run(latency=0.2), daemon="grace_s = 2")
    daemon = run.start()
    spoken = Spoken(daemon)
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    with locked(run):
        spoken.until(lambda line: "waiting for the database" in line["event"])
        leave(daemon, within_s=2 + 8)
    run.wait_until_nobody_is_left()
    finish(run)


def test_sigterm_before_the_run_could_be_taken(make_run: MakeRun) -> None:
    run = make_run()
    assert run.command("start", "--iterations", "0", "--set", "train.min_pairs=100").returncode == 1
    with locked(run):
        daemon = run.start("--accept-changed-settings")
        Spoken(daemon).until(lambda line: "waiting for the database" in line["event"])
        leave(daemon, within_s=5)


def test_sigterm_while_it_rests(make_run: MakeRun) -> None:
    run = behaving(make_run(), fake="exit-at-start = 7", daemon="engine_restarts = 0")
    daemon = run.start()
    Spoken(daemon).until_rest("engine")
    leave(daemon, within_s=5)


def test_a_port_in_use_is_named_and_waited_for(make_run: MakeRun) -> None:
    run = behaving(make_run(), daemon="engine_restarts = 0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        behaving(run, engine=f"port = {port}")
        daemon = run.start()
        spoken = Spoken(daemon)
        told = spoken.until(lambda line: "selfreward resume" in line["event"])["event"]
        assert f"port {port}" in told and "engine.port" in told
        spoken.until_rest("engine")
    assert run.command("resume").returncode == 0
    assert daemon.wait(DEADLINE_S) == 0
    assert_complete(run)
