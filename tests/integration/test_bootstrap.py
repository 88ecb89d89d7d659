"""Iteration 0, evaluation, gates and report through the commands, on the fake engine and a tiny model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

PROMPTS, REPLIES, IFT, EFT = 4, 16, 4, 8
BOOTSTRAP = f"""
[evaluation]
prompts = {PROMPTS}
replies = {REPLIES}
max_tokens = 32
[bootstrap]
mode = "sft"
eft = "{{eft}}"
max_ift = {IFT}
max_eft = {EFT}
[bootstrap.sft]
learning_rate = 1e-3
final_learning_rate = 1e-4
batch_size = 4
micro_batch_size = 4
"""
JUDGE_METRICS = {
    "readable_share",
    "pairwise_accuracy",
    "five_best",
    "exact_match",
    "spearman",
    "kendall",
    "tie_share",
    "injection_share",
}
ASSISTANT_METRICS = {"mean_length", "truncated_share", "empty_share", "distinct_2"}
LEAKS = """SELECT count(*) FROM sft_example JOIN prompt ON prompt.id = sft_example.prompt_id
           WHERE prompt.split = 'held_out'"""
SHOWN = """SELECT count(*) FROM prompt_demonstration AS shown
           JOIN prompt ON prompt.id = shown.demonstration_id WHERE prompt.split = 'held_out'"""


def bootstrapped(make_run: MakeRun, eft: str, latency: float = 0.0) -> Run:
    """A run that finds the tiny model as M_0."""
    run = make_run(latency=latency)
    (run.directory / "models" / "M_1").rename(run.directory / "models" / "M_0")
    text = run.settings.read_text().replace("[evaluation]\nenabled = false\n", BOOTSTRAP.format(eft=eft))
    run.settings.write_text(text)
    return run


@contextmanager
def served_elsewhere(model: str) -> Iterator[str]:
    """The URL of an OpenAI-compatible server that no run has started."""
    command = [sys.executable, "-m", "selfreward.engines.fake_server", "--served-model-name", model]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().split()[-1]}"
    finally:
        server.kill()
        server.communicate()


def metrics(run: Run, checkpoint: str, suite: str) -> set[str]:
    rows = run.rows(f"SELECT metric FROM evaluation WHERE checkpoint = '{checkpoint}' AND suite = '{suite}'")
    return {name for (name,) in rows}


def test_a_run_bootstraps_itself_from_its_seeds_and_measures_every_model(make_run: MakeRun) -> None:
    run = bootstrapped(make_run, "seeds")
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    kinds = run.json("select name, kind, parent_id from checkpoint order by version")
    assert [(row["name"], row["kind"]) for row in kinds] == [("M_0", "base"), ("M_1", "sft"), ("M_2", "dpo")]
    assert run.number("SELECT count(DISTINCT digest) FROM checkpoint") == 3
    assert [row["parent_id"] for row in kinds] == [None, 1, 2]

    kept = dict(run.rows("SELECT kind, count(*) FROM sft_example WHERE kept GROUP BY kind"))
    assert kept == {"ift": IFT, "eft": EFT}
    assert run.number(LEAKS) == 0 and run.number(SHOWN) == 0, "held-out seeds are never trained on or shown"
    taught = run.rows("SELECT completion, score FROM sft_example WHERE kept AND kind = 'eft'")
    assert all(text.endswith(f"\nScore: {score:g}") for text, score in taught)

    assert metrics(run, "M_0", "judge") == JUDGE_METRICS
    assert (
        metrics(run, "M_1", "judge") == metrics(run, "M_2", "judge") == JUDGE_METRICS | {"agreement_previous"}
    )
    assert metrics(run, "M_0", "assistant") == ASSISTANT_METRICS
    assert metrics(run, "M_1", "assistant") == ASSISTANT_METRICS | {"win_rate_previous"}
    assert metrics(run, "M_2", "assistant") == ASSISTANT_METRICS | {"win_rate_previous", "win_rate_first"}
    whole = "SELECT count(*) FROM evaluation WHERE value IS NOT NULL AND NOT (low <= value AND value <= high)"
    assert run.number(whole) == 0
    judged = run.rows("SELECT judge_id, count(*) FROM reply_judgement GROUP BY judge_id")
    assert [count for _, count in judged] == [REPLIES + REPLIES // 4] * 3, (
        "four replies and a canary a prompt"
    )
    assert run.number("SELECT count(*) FROM answer") == 3 * PROMPTS
    orders = run.number("SELECT count(*) FROM answer_comparison")
    assert orders == 2 * PROMPTS * (1 + 1), "M_1 against M_0, and M_2 against M_1, which is also the first"
    assert run.number("SELECT count(*) FROM pragma_foreign_key_check") == 0
    run.wait_until_nobody_is_left()

    shown = run.command("report")
    assert shown.returncode == 0, shown.stderr
    for words in ("M_0", "M_1", "M_2", "pairwise"):
        assert words in shown.stdout
    assert {path.suffix for path in (run.directory / "report").iterdir()} == {".md", ".png", ".svg"}
    report = json.loads(run.command("report", "--json").stdout)
    assert [entry["name"] for entry in report["checkpoints"]] == ["M_0", "M_1", "M_2"]

    sessions = run.count("engine_session")
    again = run.command("eval", "--checkpoint", "M_1")
    assert again.returncode == 0, again.stderr
    assert run.count("engine_session") == sessions, "nothing was missing, so no engine was started"
    more = run.command("eval", "--checkpoint", "M_1", "--set", f"evaluation.prompts={PROMPTS + 2}")
    assert more.returncode == 0, more.stderr
    assert run.number("SELECT count(*) FROM answer") == 3 * PROMPTS + 2
    unknown = run.command("eval", "--checkpoint", "M_7")
    assert unknown.returncode == 2 and "M_7" in unknown.stderr and "M_2" in unknown.stderr

    with served_elsewhere("somebody") as url:
        who = ("--set", f"evaluation.independent.url={url}", "--set", "evaluation.independent.model=somebody")
        judged_by_another = run.command("eval", "--checkpoint", "M_1", *who)
    assert judged_by_another.returncode == 0, judged_by_another.stderr
    assert metrics(run, "M_1", "assistant_independent") == {"win_rate_previous"}
    by_another = (
        "SELECT count(*), count(verdict) FROM answer_comparison JOIN judge ON judge.id = judge_id WHERE {}"
    )
    [(asked, read)] = run.rows(by_another.format("judge.checkpoint_id IS NULL"))
    assert asked == 2 * PROMPTS and read >= PROMPTS, "the fake writes something else now and then"

    outputs = run.directory / "outputs.json"
    exported = run.command("export", "answers", "M_2", str(outputs))
    assert exported.returncode == 0, exported.stderr
    answers = json.loads(outputs.read_text())
    assert len(answers) == PROMPTS and answers[0].keys() == {"dataset", "instruction", "output", "generator"}


def test_the_baseline_judges_and_what_agrees_with_people_is_taught(make_run: MakeRun) -> None:
    run = bootstrapped(make_run, "judged")
    done = run.command("start", "--set", "train.min_pairs=100", "--set", "bootstrap.max_eft=1000")
    assert done.returncode == 1 and "too few to train on" in done.stderr, done.stderr
    names = run.rows("SELECT name, kind FROM checkpoint ORDER BY id")
    assert names == [("M_0", "base"), ("M_0_ift", "sft"), ("M_1", "sft")]
    outcomes = dict(
        run.rows(
            "SELECT coalesce(drop_reason, 'kept'), count(*) FROM sft_example WHERE kind = 'eft' GROUP BY 1"
        )
    )
    replies = """SELECT count(*) FROM ranked_reply JOIN prompt ON prompt.id = ranked_reply.prompt_id
                 WHERE prompt.split = 'train'"""
    assert sum(outcomes.values()) == run.number(replies), "each reply is an example, kept or dropped"
    assert outcomes["kept"] > 0 and outcomes["disagrees"] > 0
    taught = """SELECT count(*) FROM sft_example
                JOIN reply_judgement ON reply_judgement.id = reply_judgement_id
                JOIN judge ON judge.id = judge_id JOIN checkpoint ON checkpoint.id = judge.checkpoint_id
                WHERE kept AND sft_example.kind = 'eft' AND sft_example.score = reply_judgement.score
                AND checkpoint.name = 'M_0_ift'"""
    assert run.number(taught) == outcomes["kept"]
    inverted = """SELECT count(*) FROM sft_example AS a JOIN sft_example AS b ON a.prompt_id = b.prompt_id
                  JOIN ranked_reply AS x ON x.id = a.reply_id JOIN ranked_reply AS y ON y.id = b.reply_id
                  WHERE a.kept AND b.kept AND a.kind = 'eft' AND b.kind = 'eft'
                  AND x.rank < y.rank AND a.score < b.score"""
    assert run.number(inverted) == 0
    assert metrics(run, "M_0_ift", "judge") == JUDGE_METRICS | {"agreement_previous"}
    trained = dict(run.rows("SELECT stage, count(DISTINCT step) FROM training_metric GROUP BY stage"))
    assert trained.keys() == {"baseline", "train"}
    assert run.number(LEAKS) == 0


def killed_when(run: Run, condition: str, *arguments: str) -> dict[str, list[tuple[object, ...]]]:
    """Kills the daemon as soon as a query says so; returns the rows that are there then."""
    daemon = run.start(*arguments)
    run.wait_for(lambda: run.number(condition) == 1, condition)
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    run.wait_until_nobody_is_left()
    tables = ("reply_judgement", "answer", "sft_example", "prompt", "ranked_reply")
    return {table: run.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables}


def test_killed_while_it_measures_it_goes_on_where_it_was(make_run: MakeRun) -> None:
    run = bootstrapped(make_run, "seeds", latency=0.5)
    some = f"SELECT count(*) BETWEEN 2 AND {REPLIES - 2} FROM reply_judgement"
    kept = killed_when(run, some, "--set", "engine.concurrency=2")
    run.settings.write_text(run.settings.read_text().replace("latency = 0.5", "latency = 0.0"))
    nothing = ("--set", "bootstrap.max_ift=0", "--set", "bootstrap.max_eft=0")
    done = run.command("start", "--accept-changed-settings", *nothing)
    assert done.returncode == 1 and "no example to train on" in done.stderr, done.stderr
    for table, rows in kept.items():
        assert run.rows(f"SELECT * FROM {table} ORDER BY id")[: len(rows)] == rows
    assert run.count("reply_judgement") == REPLIES + REPLIES // 4
    assert run.count("answer") == PROMPTS
    surplus = "SELECT count(*) FROM sft_example WHERE drop_reason = 'surplus'"
    assert run.number(surplus) == run.count("sft_example") > 0


def test_killed_while_m1_is_trained_it_goes_on_where_it_was(make_run: MakeRun) -> None:
    run = bootstrapped(make_run, "seeds")
    options = (
        *("--set", "evaluation.enabled=false", "--set", "bootstrap.justification=word"),
        *("--set", "train.min_pairs=100"),
    )
    kept = killed_when(run, "SELECT count(*) >= 1 FROM training_metric", *options)
    done = run.command("start", *options)
    assert "too few to train on" in done.stderr, done.stderr
    assert run.rows("SELECT * FROM sft_example ORDER BY id") == kept["sft_example"]
    taught = run.rows("SELECT completion, score FROM sft_example WHERE kind = 'eft' AND kept")
    assert taught == [(f"{'Yes' if score >= 3 else 'No'}.\nScore: {score:g}", score) for _, score in taught]
    assert run.rows("SELECT name FROM checkpoint ORDER BY id") == [("M_0",), ("M_1",)]
    assert sorted(path.name for path in (run.directory / "models").iterdir()) == ["M_0", "M_1"]
    run.wait_until_nobody_is_left()


def test_a_gate_holds_the_daemon_until_a_user_lets_it_go_on(make_run: MakeRun) -> None:
    run = make_run()
    trips = ("--set", "gates.max_one_score_share=0.01", "--set", "gates.min_items=1")
    daemon = run.start(*trips, "--set", "train.min_pairs=100")
    run.wait_for(lambda: run.number("SELECT count(*) FROM event WHERE kind = 'gate'") == 1, "the gate")
    assert run.rows("SELECT gate, value > limit_value FROM gate_check WHERE state = 'pause'") == [
        ("one_score_share", 1)
    ]
    [[told]] = run.rows("SELECT message FROM event WHERE kind = 'gate'")
    assert "one_score_share" in told and "gates.max_one_score_share" in told
    assert daemon.poll() is None and run.count("training_metric") == 0
    assert run.command("resume").returncode == 0
    _, said = daemon.communicate(timeout=120)
    assert daemon.returncode == 1 and "too few to train on" in said, "it went on to the training"
    assert run.rows("SELECT state FROM gate_check WHERE gate = 'one_score_share'") == [("accepted",)]


def test_a_gate_that_only_warns_lets_the_daemon_go_on(make_run: MakeRun) -> None:
    run = make_run()
    trips = (
        "--set",
        "gates.max_one_score_share=0.01",
        "--set",
        "gates.min_items=1",
        "--set",
        "gates.pause=[]",
    )
    done = run.command("start", *trips, "--set", "train.min_pairs=100")
    assert "too few to train on" in done.stderr
    assert run.number("SELECT count(*) FROM event WHERE kind = 'gate_warning'") >= 1
    assert run.rows("SELECT state FROM gate_check WHERE gate = 'one_score_share'") == [("warn",)]


def test_expectations_are_not_held_against_one_score(make_run: MakeRun) -> None:
    run = make_run()
    trips = ("--set", "gates.max_one_score_share=0.01", "--set", "gates.min_items=1")
    done = run.command("start", *trips, "--set", "judge.score=expected", "--set", "train.min_pairs=100")
    assert "too few to train on" in done.stderr, done.stderr
    assert run.rows("SELECT state FROM gate_check WHERE gate = 'one_score_share'") == [("skipped",)]
    spoken = (
        "SELECT count(*) FROM judgement WHERE score IS NOT NULL AND json_array_length(probabilities) <> 6"
    )
    assert run.number("SELECT count(*) FROM judgement WHERE score IS NOT NULL") > 0 == run.number(spoken)


def test_bootstrap_none_in_a_word_starts_from_the_model_itself(make_run: MakeRun) -> None:
    run = make_run()
    done = run.command("start", "--set", "bootstrap=none", "--set", "train.min_pairs=100")
    assert "too few to train on" in done.stderr
    assert run.rows("SELECT name, kind FROM checkpoint") == [("M_1", "base")]


def test_seeds_without_anything_to_learn_from_are_said_to_be_so(make_run: MakeRun, tmp_path: Path) -> None:
    run = bootstrapped(make_run, "seeds")
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps({"instruction": f"Name {n} things."}) + "\n" for n in range(3, 12)))
    done = run.command("start", "--set", f'seeds.files=["{bare}"]', "--set", "evaluation.enabled=false")
    assert done.returncode == 1 and "no example to train on" in done.stderr
    assert "Traceback" not in done.stderr
