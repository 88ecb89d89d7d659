"""`selfreward compare` and its page: two runs of one database over the same candidates."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from selfreward.config import Settings, load_settings
from selfreward.errors import BadInput
from selfreward.report.compared import gather_comparison
from selfreward.store import Store
from selfreward.store.forks import Reuse
from selfreward.terminal.compare import show_comparison
from selfreward.types import (
    CheckpointKind,
    EvaluationRow,
    JudgementStatus,
    Metric,
    NewJudgement,
    PairDecision,
    PairOutcome,
    PreferencePair,
    RunRow,
    StageName,
    Suite,
)
from tests.commands import Done, selfreward
from tests.conftest import Filled
from tests.filled import FORK, RUN
from tests.unit.test_look import SGR, on_terminal
from tests.unit.test_pages_runs import client, seen


@pytest.fixture
def look(done_run: Path) -> Callable[..., Done]:
    """A command on the finished run."""
    return lambda *arguments: selfreward(*arguments, "--dir", str(done_run))


@pytest.fixture(scope="module")
def pages(done_run: Path) -> Iterator[TestClient]:
    settings = load_settings(done_run)
    store = Store(settings.database.url, done_run)
    with client(store, settings, done_run) as opened:
        yield opened
    store.close()


@pytest.fixture
def forked(filled: Filled) -> tuple[Filled, RunRow]:
    """Two prompts judged in main, and a fork that judges their candidates anew."""
    store = filled.store
    for number, scores in enumerate(([5.0, 3.0, 1.0], [4.0, 2.0]), start=1):
        prompt = filled.prompt(f"Question {number}?", draw=number)
        filled.candidates(prompt, [f"answer {n}" for n in scores])
        for key, score in zip(candidates(filled, prompt), scores, strict=True):
            filled.judgements(key, [score])
    for name in (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE):
        store.runs.finish_stage(filled.stage(name).id, "")
    settings = Settings.model_validate(
        {"name": "other", "judge": {"samples": 1}, "pair": {"soft_labels": True}}
    )
    store.forks.make(
        "other", filled.run, filled.checkpoint, settings, shares_seeds=True, reuse=Reuse.CANDIDATES
    )
    other = store.runs.find("other")
    assert other is not None
    return filled, other


def candidates(filled: Filled, prompt_id: int) -> list[int]:
    [scored] = filled.store.pairs.undecided(filled.iteration.id, filled.judge, prompt_id - 1, 1)
    return [candidate.id for candidate in scored.candidates]


def judge_anew(filled: Filled, other: RunRow, scores: dict[int, float]) -> int:
    """The fork's judge and what it gave; the id of its iteration."""
    store = filled.store
    iteration = store.runs.iteration(other.id, 1)
    assert iteration is not None
    judge = store.candidates.judge(filled.checkpoint.id, "pairwise", "p.jinja", "1" * 64, {})
    store.runs.set_judge(iteration.id, judge)
    stage = store.runs.begin_stage(iteration.id, StageName.JUDGE)
    rows = [
        NewJudgement(
            candidate_id=key,
            sample=0,
            raw_text="",
            status=JudgementStatus.READ,
            score=score,
            token_count=1,
            finish_reason="stop",
        )
        for key, score in scores.items()
    ]
    store.candidates.add_judgements(judge, stage.id, None, rows, 0)
    return iteration.id


def pair(filled: Filled, iteration_id: int, triple: tuple[int, int, int], label: float | None = None) -> None:
    store = filled.store
    prompt, chosen, rejected = triple
    drawn = PreferencePair(
        prompt_id=prompt,
        chosen_id=chosen,
        rejected_id=rejected,
        chosen_score=4,
        rejected_score=1,
        soft_label=label,
    )
    stage = store.runs.begin_stage(iteration_id, StageName.PAIR)
    decision = PairDecision(prompt_id=prompt, outcome=PairOutcome.PAIRED, pairs=(drawn,))
    store.pairs.decide(iteration_id, filled.judge, stage.id, [decision], prompt)


def test_judges_and_pairs_of_a_fork_are_compared(forked: tuple[Filled, RunRow]) -> None:
    filled, other = forked
    first, second = 1, 2
    one, two = candidates(filled, first), candidates(filled, second)
    scores = dict(zip(one, (4.0, 3.0, 0.0), strict=True)) | dict(zip(two, (1.0, 2.0), strict=True))
    theirs = judge_anew(filled, other, scores)
    pair(filled, filled.iteration.id, (first, one[0], one[2]))
    pair(filled, filled.iteration.id, (second, two[0], two[1]))
    pair(filled, theirs, (first, one[0], one[2]), 0.9)
    pair(filled, theirs, (second, two[1], two[0]), 0.7)
    found = gather_comparison(filled.store, filled.run, other)
    assert (found.t, found.candidates, found.pairs.both, found.pairs.swapped) == (1, 5, 1, 1)
    assert found.agreement is not None
    assert found.agreement.kendall.value == pytest.approx(0) and found.agreement.kappa.n == 4
    assert found.agreement.same_verdict == 0.75
    assert found.a.judge == "M_1, rubric, t.jinja" and found.b.judge == "M_1, pairwise, p.jinja"
    assert (found.a.soft_label, found.b.soft_label) == (None, pytest.approx(0.8))
    assert [each.key for each in found.settings] == ["judge.samples", "pair.soft_labels"]


def test_a_fork_that_has_done_nothing_yet_can_be_compared(forked: tuple[Filled, RunRow]) -> None:
    filled, other = forked
    found = gather_comparison(filled.store, other, filled.run)
    assert found.agreement is None and found.a.judge is None and not found.a.trained
    assert "has not judged" in on_terminal(lambda sheet: show_comparison(found, sheet), 60)


def test_figures_of_both_checkpoints_stand_side_by_side(forked: tuple[Filled, RunRow]) -> None:
    filled, other = forked
    store = filled.store
    for run, value in ((filled.run, 0.6), (other, 0.7)):
        iteration = store.runs.iteration(run.id, 1)
        assert iteration is not None
        store.runs.finish_iteration(iteration, CheckpointKind.DPO, f"models/{run.name}", run.name)
        row = EvaluationRow(
            checkpoint="M_2",
            suite=Suite.JUDGE,
            metric=Metric.PAIRWISE_ACCURACY,
            value=value,
            low=value - 0.1,
            high=value + 0.1,
            n=40,
        )
        store.evaluations.put(run.id, [row])
    [line] = gather_comparison(store, filled.run, other).evaluation
    assert line.a is not None and line.b is not None
    assert (line.label, line.a.value, line.b.value) == ("pairwise accuracy", 0.6, 0.7)
    assert line.shown[1] == ("70.0", "n 40", "[60.0–80.0]")


def test_runs_that_share_nothing_are_refused_with_the_fork_that_would(forked: tuple[Filled, RunRow]) -> None:
    filled, other = forked
    stranger = filled.store.runs.ensure("stranger")
    with pytest.raises(BadInput, match="share no candidates") as refused:
        gather_comparison(filled.store, filled.run, stranger)
    assert "selfreward fork --run main --from-iteration 1 --reuse candidates" in refused.value.hint
    with pytest.raises(BadInput, match="with itself"):
        gather_comparison(filled.store, filled.run, filled.run)
    with pytest.raises(BadInput, match="in iteration 7") as wrong:
        gather_comparison(filled.store, filled.run, other, 7)
    assert "--iteration 1" in wrong.value.hint


# The command


@pytest.mark.parametrize("width", [40, 80, 160])
def test_it_fits_any_terminal(done_run: Path, width: int) -> None:
    store = Store(load_settings(done_run).database.url, done_run)
    runs = [store.runs.find(name) for name in (RUN, FORK)]
    assert runs[0] is not None and runs[1] is not None
    found = gather_comparison(store, runs[0], runs[1])
    store.close()
    shown = SGR.sub("", on_terminal(lambda sheet: show_comparison(found, sheet), width, colours=False))
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "Kendall" in shown and "train.beta" in shown


def test_people_and_programs_are_told_the_same(look: Callable[..., Done]) -> None:
    done = look("compare", RUN, FORK)
    assert done.returncode == 0, done.stderr
    assert "main and beta05" in done.stdout and "train.beta" in done.stdout
    found = json.loads(look("compare", RUN, FORK, "--json").stdout)
    assert (found["t"], found["pairs"]["only_a"], found["pairs"]["swapped"]) == (1, 0, 0)
    assert found["agreement"]["kendall"]["value"] == pytest.approx(1), (
        "the fork has taken the judgements over"
    )
    assert found["settings"] == [{"key": "train.beta", "a": "0.1", "b": "0.5"}]
    assert found["a"]["loss"][0] > found["a"]["loss"][1]


def test_what_cannot_be_compared_is_said(look: Callable[..., Done]) -> None:
    assert "there is no run 'nobody'" in look("compare", RUN, "nobody").stderr
    done = look("compare", RUN, FORK, "--iteration", "2")
    assert done.returncode == 2 and "--iteration 1" in done.stderr


def test_names_of_runs_are_completed(done_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import click
    import typer

    from selfreward.cli.completing import run_names

    context = typer.Context(click.Command("compare"))
    context.params = {"directory": done_run}
    assert run_names(context, "") == [RUN, FORK] and run_names(context, "be") == [FORK]
    monkeypatch.chdir(done_run.parent)
    context.params = {}
    assert run_names(context, "") == []


# The page


def test_the_page_has_a_form_and_what_both_made(pages: TestClient) -> None:
    assert "Compare two of them" in seen(pages.get("/").text)
    form = pages.get("/compare")
    assert form.status_code == 200 and form.text.count("<select") == 2 and "Kendall" not in form.text
    page = pages.get(f"/compare?a={RUN}&b={FORK}")
    assert page.status_code == 200
    for part in ("Kendall τ", "Cohen κ", "train.beta", "Pairs trained on", "pairwise accuracy"):
        assert part in seen(page.text), part


def test_the_page_says_why_it_cannot_compare(pages: TestClient) -> None:
    assert "with itself" in seen(pages.get(f"/compare?a={RUN}&b={RUN}").text)
    assert pages.get(f"/compare?a={RUN}&b=nobody").status_code == 404
    assert pages.get(f"/compare?a={RUN}&b={FORK}&t=2").status_code == 200
    assert pages.get(f"/compare?a={RUN}&b={FORK}&t=x").status_code == 400
