"""The daemon through its commands, on the fake engine and the fake trainer."""

import json
import signal
import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

PROMPTS, CANDIDATES, JUDGEMENTS = 6, 24, 72
LATENCY_S = 1.5
"""Of every request where a test must step in while the work is under way: judging alone takes 4.5 s …"""
ONE_AT_A_TIME = ("--set", "engine.concurrency=1")
"""… and like this 36 s: time enough for a command that is started meanwhile."""

# Every row that these runs must have in the end, once and only once.
GENERATED = {
    "prompts": ("SELECT count(*) FROM prompt WHERE iteration_id = 1 AND status = 'accepted'", PROMPTS),
    "candidates": ("SELECT count(*) FROM candidate", CANDIDATES),
    "distinct candidates": (
        "SELECT count(*) FROM (SELECT DISTINCT prompt_id, candidate_index FROM candidate)",
        CANDIDATES,
    ),
    "judgements": ("SELECT count(*) FROM judgement", JUDGEMENTS),
    "distinct judgements": (
        "SELECT count(*) FROM (SELECT DISTINCT candidate_id, judge_id, sample FROM judgement)",
        JUDGEMENTS,
    ),
    "one judge": ("SELECT count(*) FROM judge", 1),
    "decisions": ("SELECT count(*) FROM pair_decision", PROMPTS),
    "orphans": ("SELECT count(*) FROM pragma_foreign_key_check", 0),
}
TRAINED = {
    "checkpoints": ("SELECT count(DISTINCT digest) FROM checkpoint", 2),
    "iterations done": ("SELECT count(*) FROM iteration WHERE status = 'done'", 1),
    "stages done": ("SELECT count(*) FROM stage WHERE status = 'done'", 6),
}
NO_TRAINING = ("--set", "train.min_pairs=100")
"""Ends a run when its pairs are drawn."""
SLOW_TRAINING = ("--set", "train.fake_args.step_seconds=0.5")


def assert_holds(run: Run, invariants: dict[str, tuple[str, int]]) -> None:
    found = {name: run.number(sql) for name, (sql, _) in invariants.items()}
    assert found == {name: wanted for name, (_, wanted) in invariants.items()}


def assert_complete(run: Run) -> None:
    assert_holds(run, GENERATED | TRAINED)
    assert sorted(path.name for path in (run.directory / "models").iterdir()) == ["M_1", "M_2"]
    run.wait_until_nobody_is_left()


def finish(run: Run, *options: str) -> None:
    done = run.command("start", *options)
    assert done.returncode == 0, done.stderr
    assert_complete(run)


def finish_generation(run: Run) -> None:
    done = run.command("start", *NO_TRAINING)
    assert done.returncode == 1 and "too few to train on" in done.stderr, done.stderr
    assert_holds(run, GENERATED)
    run.wait_until_nobody_is_left()


def test_a_run_goes_from_m1_to_m2_and_can_be_read_with_sql(make_run: MakeRun) -> None:
    run = make_run(converted=False)
    done = run.in_new_python("start")
    assert done.returncode == 0, done.stderr
    assert "M_2" in done.stdout and "selfreward query" in done.stdout
    assert_complete(run)
    [row] = run.json("select t, prompts, candidates, judgements, pairs, trained from iteration_summary")
    assert (row["t"], row["prompts"], row["candidates"], row["judgements"]) == (
        1,
        PROMPTS,
        CANDIDATES,
        JUDGEMENTS,
    )
    assert row["pairs"] >= 1 and row["trained"] == "M_2"
    kinds = run.json("select version, kind, digest from checkpoint order by version")
    assert [(kind["version"], kind["kind"]) for kind in kinds] == [(1, "base"), (2, "dpo")]
    curve = run.json("select step, loss from training_curve")
    assert [point["step"] for point in curve] == list(range(1, len(curve) + 1)) and curve
    assert abs(curve[0]["loss"] - 0.6931) < 0.01, "the policy starts as the reference"
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"stage started", "stage done"} <= {line["event"] for line in logged}
    # It is done: another start does nothing, and says what there is.
    again = run.command("start")
    assert again.returncode == 0 and run.number("SELECT max(t) FROM iteration") == 1
    status = json.loads(run.command("status", "--json").stdout)
    assert status["running"] is False and len(status["checkpoints"]) == 2
    assert run.command("pause").returncode == 3, "there is no daemon to ask"
    # One more iteration learns from what the model wrote before: its prompts are demonstrations.
    assert run.command("start", "--iterations", "2").returncode == 0
    shown = """SELECT count(*) FROM prompt_demonstration AS shown JOIN prompt ON prompt.id = shown.prompt_id
               JOIN prompt AS model ON model.id = shown.demonstration_id AND model.source = 'self_instruct'
               WHERE prompt.iteration_id = 2"""
    assert run.number(shown) > 0
    assert run.number("SELECT count(DISTINCT digest) FROM checkpoint") == 3


@pytest.mark.parametrize(
    ("stage", "condition"),
    [
        ("self_instruct", "SELECT count(*) >= 3 FROM prompt WHERE source = 'self_instruct'"),
        ("sample", "SELECT count(*) BETWEEN 4 AND 20 FROM candidate"),
        ("judge", "SELECT count(*) BETWEEN 6 AND 60 FROM judgement"),
        ("train", "SELECT count(*) >= 1 FROM training_metric"),
    ],
)
def test_kill_minus_nine_loses_nothing_and_repeats_nothing(
    make_run: MakeRun, stage: str, condition: str
) -> None:
    run = make_run(latency=LATENCY_S)
    options = SLOW_TRAINING if stage == "train" else NO_TRAINING
    daemon = run.start(*options)
    run.wait_for(lambda: run.number(condition) == 1, f"{stage} to be under way")
    daemon.kill()
    before = {
        table: run.rows(f"SELECT * FROM {table} ORDER BY id")
        for table in ("prompt", "candidate", "judgement")
    }
    run.wait_until_nobody_is_left()
    if stage == "train":
        finish(run, *options)
    else:
        finish_generation(run)
    for table, rows in before.items():
        kept = run.rows(f"SELECT * FROM {table} ORDER BY id")[: len(rows)]
        assert kept == rows, f"rows of {table} that were committed stay as they were"


def test_sigterm_drains_and_exits_zero(make_run: MakeRun) -> None:
    run = make_run(latency=LATENCY_S)
    daemon = run.start(*NO_TRAINING)
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    run.wait_until_nobody_is_left()
    assert run.count("judgement") < JUDGEMENTS
    finish_generation(run)


def test_a_second_signal_leaves_at_once(make_run: MakeRun) -> None:
    run = make_run(latency=60)
    daemon = run.start()
    run.wait_for(
        lambda: run.number("SELECT count(*) FROM engine_session WHERE ready_at IS NOT NULL") == 1, "engine"
    )
    daemon.send_signal(signal.SIGINT)
    run.wait_for(lambda: "again to leave at once" in daemon.said()[1], "the first signal to be heard")
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(10) == 130
    run.wait_until_nobody_is_left()


def test_pause_rests_and_resume_goes_on(make_run: MakeRun) -> None:
    run = make_run(latency=LATENCY_S)
    daemon = run.start(*ONE_AT_A_TIME)
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    assert run.command("pause").returncode == 0
    run.wait_for(lambda: run.count("event WHERE kind = 'paused'") == 1, "the pause")
    rested = run.count("judgement")
    assert rested < JUDGEMENTS
    assert not [line for line in run.descendants() if "fake_server" in line], "the engine's memory is freed"
    assert daemon.poll() is None
    assert run.command("resume").returncode == 0
    run.wait_for(lambda: run.count("judgement") > rested, "more judgements")
    assert run.count("event WHERE kind = 'resumed'") == 1
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0


def test_stop_asks_the_daemon_to_leave(make_run: MakeRun) -> None:
    run = make_run(latency=LATENCY_S)
    daemon = run.start(*ONE_AT_A_TIME)
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    assert run.command("stop").returncode == 0
    assert daemon.wait(30) == 0
    run.wait_until_nobody_is_left()


def test_outside_its_window_a_run_rests(make_run: MakeRun) -> None:
    run = make_run()
    now = datetime.now()
    opens, closes = (now + timedelta(hours=hours) for hours in (2, 3))
    daemon = run.start("--set", f"daemon.run_window={opens:%H:%M}-{closes:%H:%M}")
    run.wait_for(lambda: run.count("event WHERE kind = 'paused'") == 1, "the rest")
    assert run.count("engine_session") == 0
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0


def test_the_database_is_backed_up_while_the_run_goes_on(make_run: MakeRun) -> None:
    run = make_run(latency=LATENCY_S)
    daemon = run.start("--set", "daemon.backup_every_minutes=0.02", "--set", "daemon.backup_keep=2")
    run.wait_for(lambda: run.count("event WHERE kind = 'backup'") >= 3, "backups")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    kept = sorted((run.directory / "backups").iterdir())
    assert len(kept) == 2
    with closing(sqlite3.connect(kept[-1])) as copy:
        assert copy.execute("SELECT count(*) FROM prompt").fetchone()[0] > 0


def test_a_run_on_postgresql(make_run: MakeRun, postgres_uri: str) -> None:
    run = make_run()
    place = ["--set", f"database.url={postgres_uri}"]
    done = run.command("start", *place)
    assert done.returncode == 0, done.stderr
    assert not (run.directory / "selfreward.db").exists()
    run.settings.write_text(run.settings.read_text() + f'[database]\nurl = "{postgres_uri}"\n')
    [row] = run.json("select prompts, candidates, judgements, trained from iteration_summary")
    assert row == {
        "prompts": PROMPTS,
        "candidates": CANDIDATES,
        "judgements": JUDGEMENTS,
        "trained": "M_2",
    }
    assert run.command("status").returncode == 0


def test_a_second_daemon_is_told_who_owns_the_run(make_run: MakeRun) -> None:
    run = make_run(latency=LATENCY_S)
    first = run.start(*ONE_AT_A_TIME)
    run.wait_for(lambda: run.count("candidate") >= 1, "candidates")
    second = run.command("start")
    assert second.returncode == 4 and f":{first.pid}" in second.stderr
    assert first.poll() is None


def test_detach_runs_in_the_background(make_run: MakeRun) -> None:
    run = make_run(latency=LATENCY_S)
    done = run.command("start", "--detach", *ONE_AT_A_TIME)
    assert done.returncode == 0, done.stderr
    assert "started daemon" in done.stdout
    run.wait_for(lambda: run.count("candidate") >= 4, "candidates")
    assert run.command("stop").returncode == 0
    run.wait_until_nobody_is_left()


def test_an_engine_that_dies_is_started_again(make_run: MakeRun) -> None:
    run = make_run()
    text = run.settings.read_text().replace("latency = 0.0", "die-after = 25")
    run.settings.write_text(text)
    finish_generation(run)
    assert run.count("engine_session") > 1
    assert run.count("event WHERE kind = 'engine_failed'") == run.count("engine_session") - 1


def test_requests_that_fail_are_tried_again(make_run: MakeRun) -> None:
    run = make_run()
    run.settings.write_text(run.settings.read_text().replace("latency = 0.0", "fail-every = 7"))
    finish_generation(run)
    assert run.number("SELECT count(*) FROM candidate WHERE status = 'failed'") == 0


def test_a_prompt_that_does_not_fit_is_marked_and_passed_over(make_run: MakeRun) -> None:
    run = make_run()
    # Room for the list of demonstrations and for an answer, but not for any judge prompt.
    # Without the gates, which would rest and wait for a user: no judgement can be read.
    done = run.command("start", "--set", "engine.max_model_len=280", "--set", "gates.enabled=false")
    assert done.returncode == 1, "nothing is scored, so there is nothing to train on"
    assert run.rows("SELECT DISTINCT status FROM judgement") == [("too_long",)]
    assert run.count("judgement") == JUDGEMENTS


def test_a_cap_of_attempts_ends_the_writing_and_is_told(make_run: MakeRun) -> None:
    run = make_run()
    limits = ("--set", "self_instruct.max_attempts=3")
    assert run.command("start", *limits, *NO_TRAINING).returncode == 1
    [(detail,)] = run.rows("SELECT detail FROM stage WHERE name = 'self_instruct'")
    assert detail.startswith("cap of 3 attempts reached before the target: ")
    written = run.number("SELECT count(*) FROM prompt WHERE source = 'self_instruct'")
    assert written == 3, "asked for no more than the cap allows"


def test_too_few_pairs_stop_the_loop_and_say_why(make_run: MakeRun) -> None:
    run = make_run()
    done = run.command("start", *NO_TRAINING)
    assert done.returncode == 1
    assert "too few to train on" in done.stderr and "M_1 stays the current model" in done.stderr
    assert run.rows("SELECT name FROM checkpoint") == [("M_1",)]
    assert run.rows("SELECT status FROM iteration") == [("halted",)]


def test_a_finished_checkpoint_without_its_row_is_adopted(make_run: MakeRun) -> None:
    run = make_run()
    finish(run)
    digest = run.rows("SELECT digest FROM checkpoint WHERE version = 2")
    run_sql(run, "DELETE FROM checkpoint WHERE version = 2")
    run_sql(run, "UPDATE iteration SET status = 'running'")
    run_sql(run, "UPDATE stage SET status = 'running' WHERE name = 'train'")
    half = run.directory / "models" / "M_2.tmp-1"
    half.mkdir()
    finish(run)
    assert run.rows("SELECT digest FROM checkpoint WHERE version = 2") == digest
    assert run.number("SELECT max(attempt) FROM training_metric") == 1, "nothing was trained again"


def run_sql(run: Run, sql: str) -> None:
    with closing(sqlite3.connect(run.directory / "selfreward.db")) as connection, connection:
        connection.execute(sql)


# --- what a user can get wrong ----------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess[str], code: int, *told: str) -> None:
    assert done.returncode == code, done.stderr
    for words in told:
        assert words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_bad_settings_are_refused_before_anything_is_made(make_run: MakeRun) -> None:
    run = make_run()
    run.settings.write_text("[train]\nbetta = 0.2\n")
    refused(run.command("start"), 2, "line 2", "did you mean 'train.beta'?")
    run.settings.write_text("")
    refused(run.command("start"), 2, "no model is set")
    (run.directory / "models" / "M_1" / "manifest.json").unlink()
    refused(run.command("start", "--set", "model=./nowhere"), 2, "nowhere")
    run.settings.unlink()
    refused(run.command("start"), 2, "selfreward init")


def test_a_database_at_another_revision_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    assert run.command("start", *NO_TRAINING).returncode == 1
    run_sql(run, "UPDATE alembic_version SET version_num = '0000'")
    refused(run.command("start"), 1, "at revision 0000")
    refused(run.command("status"), 1, "at revision 0000")
