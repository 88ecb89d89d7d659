"""Other judges than the rubric, on a whole run: two by two, at an endpoint, with an unfit tokenizer."""

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from statistics import fmean

import httpx
import pytest

from selfreward.engines.fake_replies import quality
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

PROMPTS, CANDIDATES = 6, 4
COMPARED = "SELECT id, first_id, second_id, probability_first FROM candidate_comparison"


def with_judge(run: Run, tables: str) -> Run:
    """The run with further tables of settings."""
    run.settings.write_text(f"{run.settings.read_text()}\n{tables}")
    return run


@contextlib.contextmanager
def served_elsewhere(port: int = 0) -> Iterator[str]:
    """The address of an OpenAI-compatible server that no run has started, with the model `big`."""
    module = "selfreward.engines.fake_server"
    command = [sys.executable, "-m", module, "--served-model-name", "big", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().split()[-1]}"
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(
    ("opponents", "strength", "each", "killed_at"),
    [
        ("all", "win_rate", CANDIDATES * (CANDIDATES - 1), "judge:storing:4"),
        ("tournament", "bradley_terry", 2 * (CANDIDATES - 1), "judge:asked:3"),
    ],
)
def test_a_run_that_is_killed_while_it_compares_goes_on_where_it_was(
    make_run: MakeRun, opponents: str, strength: str, each: int, killed_at: str
) -> None:
    pairwise = (
        f'[judge]\ntype = "pairwise"\n[judge.pairwise]\nopponents = "{opponents}"\nstrength = "{strength}"'
    )
    run = with_judge(make_run(), pairwise)
    killed = run.command("start", SELFREWARD_CRASH_AT=killed_at)
    assert killed.returncode == -9, killed.stderr
    before = set(run.rows(COMPARED))
    judged = run.rows("SELECT candidate_id, score FROM judgement")
    assert 0 < len(before) < PROMPTS * each

    done = run.command("start")
    assert done.returncode == 0, done.stderr
    after = run.rows(COMPARED)
    assert before <= set(after), "what was compared stays, and is not asked again"
    assert len(after) == PROMPTS * each
    assert {(first, second) for _, first, second, _ in after} == {
        (second, first) for _, first, second, _ in after
    }, "every couple in both orders"
    scores = dict(run.rows("SELECT candidate_id, score FROM judgement"))
    assert len(scores) == PROMPTS * CANDIDATES == run.count("judgement")
    assert all(scores[candidate] == score for candidate, score in judged)
    assert run.count("preference_pair") > 0 and run.number("SELECT count(*) FROM checkpoint") == 2

    texts = dict(run.rows("SELECT id, text FROM candidate"))
    good, bad = (
        [scores[key] for key in texts if (quality(texts[key]) > 2) is wanted] for wanted in (True, False)
    )
    assert fmean(good) > fmean(bad), "the better text tends to win"

    detail = run.rows("SELECT detail FROM stage WHERE name = 'judge'")[0][0]
    bias = run.json("select comparisons, flipped_share from position_bias")[0]
    assert bias["comparisons"] == PROMPTS * each
    assert f"{bias['flipped_share']:.0%} of the verdicts change with the order" in detail
    checked = run.command("verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_endpoints_write_the_prompts_and_judge(make_run: MakeRun) -> None:
    with served_elsewhere() as url:
        endpoint = f'url = "{url}"\nmodel = "big"'
        tables = f"[judge.endpoint]\n{endpoint}\n[self_instruct.endpoint]\n{endpoint}\n"
        run = with_judge(make_run(), tables)
        refused = run.command("start")
        assert refused.returncode == 2 and 'self_instruct.mode = "chat"' in refused.stderr, refused.stderr
        assert run.count("prompt") == 0, "before anything starts"
        run.settings.write_text(run.settings.read_text().replace("target = 6", 'mode = "chat"\ntarget = 6'))
        done = run.command("start")
        assert done.returncode == 0, done.stderr
        told = httpx.get(f"{url}/metrics", trust_env=False).text
    judge = "SELECT count(*) FROM judgement JOIN judge ON judge.id = judge_id WHERE {}"
    alone = "judge.checkpoint_id IS NULL AND judgement.session_id IS NULL AND judge.type = 'rubric'"
    assert run.number(judge.format(alone)) == run.count("judgement") == PROMPTS * CANDIDATES * 3
    assert run.number("SELECT count(*) FROM judge WHERE parameters LIKE '%big%'") == 1
    written = run.number("SELECT count(*) FROM prompt WHERE iteration_id IS NOT NULL")
    tokens = re.search(r"generation_tokens_total\S* ([0-9.]+)", told)
    least = run.number("SELECT sum(token_count) FROM judgement") + written
    assert tokens is not None and float(tokens[1]) > least, "it has written the prompts too"


def test_a_judge_that_cannot_be_reached_is_waited_for(make_run: MakeRun) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    tables = f'[judge.endpoint]\nurl = "http://127.0.0.1:{port}"\nmodel = "big"'
    run = with_judge(make_run(), tables)
    daemon = run.start("--set", "daemon.engine_restarts=0")
    resting = "SELECT count(*) FROM event WHERE kind = 'paused'"
    run.wait_for(lambda: run.number(resting) > 0, "the daemon to rest")
    failures = run.rows("SELECT message FROM event WHERE kind = 'engine_failed'")
    assert any(f"big at http://127.0.0.1:{port} cannot be reached" in text for (text,) in failures)
    with served_elsewhere(port):
        assert run.command("resume").returncode == 0
        _, said = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, said
    assert run.count("judgement") == PROMPTS * CANDIDATES * 3


def test_digits_of_two_tokens_end_it_with_the_settings_that_would_work(make_run: MakeRun) -> None:
    run = with_judge(make_run(), '[judge]\ntype = "pairwise"')
    unfit = ("--set", "engine.extra_args.split-digits=true")
    ended = run.command("start", *unfit)
    assert ended.returncode == 1, ended.stderr
    said = ended.stderr.replace('\\"', '"')
    assert 'judge.type = "rubric"' in said and 'judge.score = "sampled"' in said, said
    assert "Traceback" not in said
    kept = set(run.rows("SELECT id, text FROM candidate"))
    assert kept
    other = run.command("start", *unfit, "--set", "judge.type=rubric", "--accept-changed-settings")
    assert other.returncode == 0, other.stderr
    assert kept <= set(run.rows("SELECT id, text FROM candidate")), "nothing is lost"
    assert run.count("judgement") == PROMPTS * CANDIDATES * 3
