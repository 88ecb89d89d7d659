"""What is kept while a daemon is at work: backups, checks, and no more checkpoints than are wanted."""

import json
import sqlite3
from contextlib import closing

from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

LATENCY_S = 0.3


def names(run: Run) -> list[str]:
    return sorted(path.name for path in (run.directory / "models").iterdir())


def test_checkpoints_go_after_each_iteration_and_a_pinned_one_stays(make_run: MakeRun) -> None:
    run = make_run()
    keep = ("--set", "daemon.keep_checkpoints=1")
    assert run.command("start", "--iterations", "2").returncode == 0
    assert names(run) == ["M_1", "M_2", "M_3"]
    assert run.command("pin", "M_2").returncode == 0
    done = run.command("start", "--iterations", "4", *keep)
    assert done.returncode == 0, done.stderr
    assert names(run) == ["M_1", "M_2", "M_5"]
    assert run.rows("SELECT name FROM checkpoint WHERE removed_at IS NOT NULL ORDER BY id") == [
        ("M_3",),
        ("M_4",),
    ]
    told = [message for (message,) in run.rows("SELECT message FROM event WHERE kind = 'retention'")]
    assert told == ["the files of M_3 are removed", "the files of M_4 are removed"]
    checked = run.command("verify", "--json")
    assert checked.returncode == 0, checked.stdout
    gone = run.command("pin", "M_4")
    assert gone.returncode == 2 and "retention has removed them" in gone.stderr


def test_a_run_at_work_is_verified_and_backed_up_at_any_moment(make_run: MakeRun) -> None:
    run = make_run(latency=LATENCY_S)
    daemon, looks = run.start("--iterations", "2"), 0
    run.wait_for(lambda: run.count("prompt") > 0, "the first rows")
    while daemon.poll() is None:
        checked = run.command("verify", "--json")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        copied = run.command("backup", str(run.directory / "copies" / f"{looks}.db"))
        assert copied.returncode == 0, copied.stderr
        looks += 1
    assert daemon.returncode == 0 and looks >= 3
    assert json.loads(run.command("verify", "--json").stdout)["ok"]
    with closing(sqlite3.connect(run.directory / "copies" / "0.db")) as copy:
        assert copy.execute("SELECT count(*) FROM prompt").fetchone()[0] > 0
