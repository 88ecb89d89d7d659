"""A prompt with several pairs, an anchor, imported pairs: stored, trained on, shown, exported, verified."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from starlette.testclient import TestClient

from selfreward.config import PairSettings, Settings
from selfreward.mixing import mix
from selfreward.pairing import draw_pairs
from selfreward.store import Store
from selfreward.store.browse import Browse
from selfreward.store.browsed import PromptFilter
from selfreward.store.exporting import Exporting
from selfreward.store.verify import examine
from selfreward.terminal import show
from selfreward.terminal.blocks import Sheet
from selfreward.types import (
    CandidateStatus,
    CheckpointKind,
    NewCandidate,
    PairOutcome,
    Preference,
    PromptSource,
    ScoredPrompt,
    StageName,
)
from selfreward.web.app import create_app
from selfreward.web.site import Site
from tests.conftest import Filled

SCORES = (5.0, 3.0, 1.0, 3.0)
PEOPLE = Preference(prompt="Which star is red?", chosen="Mars is none.", rejected="Vega.", soft_label=0.9)
ORIGIN = "people <b>.jsonl"


@dataclass(frozen=True, kw_only=True)
class Several:
    """Prompt 1 with the pairs of all candidates that differ, prompt 2 with none, an imported pair."""

    filled: Filled
    prompt: int
    imported: int
    pairs: tuple[int, ...]
    """Of the prompt, widest first."""

    @property
    def browse(self) -> Browse:
        return Browse(self.filled.store.database)


def anchor(filled: Filled, prompt: int) -> None:
    """An answer of an earlier model, judged with 2."""
    answer = NewCandidate(
        prompt_id=prompt,
        index=1000,
        text="An old answer.",
        status=CandidateStatus.OK,
        finish_reason="stop",
        token_count=3,
        mean_logprob=None,
    )
    stage = filled.stage(StageName.ANCHOR)
    filled.store.anchors.add(filled.iteration.id, filled.checkpoint.id, stage.id, None, [answer], prompt)


def scored(filled: Filled, anchor_id: int | None = None) -> list[ScoredPrompt]:
    return filled.store.pairs.undecided(filled.iteration.id, filled.judge, 0, 10, anchor_id)


def decide(filled: Filled, settings: PairSettings) -> None:
    stage = filled.stage(StageName.PAIR)
    decisions = draw_pairs(scored(filled), settings)
    filled.store.pairs.decide(filled.iteration.id, filled.judge, stage.id, decisions, 10)


@pytest.fixture
def several(store: Store) -> Several:
    filled = Filled(store, Settings.model_validate({"sample": {"candidates": 2}, "judge": {"samples": 1}}))
    prompts = [filled.prompt("Name a star."), filled.prompt("Name a moon.", draw=2)]
    filled.candidates(prompts[0], [f"Answer {number}." for number in range(4)])
    filled.candidates(prompts[1], ["Io.", "Titan."])
    for candidate, score in zip(range(1, 7), (*SCORES, 2.0, 2.0), strict=True):
        filled.judgements(candidate, [score])
    anchor(filled, prompts[0])
    filled.judgements(7, [2.0])
    decide(filled, PairSettings(rule="all_pairs"))
    imported = filled.store.imported
    imported.add(filled.run.id, ORIGIN, [PEOPLE])
    settings = PairSettings(imported_share=0.5)
    own = imported.own_pairs(filled.iteration.id)
    imported.apply(filled.iteration.id, mix(own, imported.offers(filled.iteration), settings, 0))
    [listed] = (
        Browse(filled.store.database).prompts(filled.run.id, PromptFilter(source=PromptSource.IMPORTED)).rows
    )
    detail = Browse(filled.store.database).prompt(filled.run.id, prompts[0])
    return Several(
        filled=filled,
        prompt=prompts[0],
        imported=listed.id,
        pairs=tuple(pair.id for pair in detail.pairs),
    )


def test_every_pair_is_stored_once_and_drawing_again_adds_none(several: Several) -> None:
    filled = several.filled
    before = list(filled.store.pairs.training_pairs(filled.iteration.id, page=2))
    decide(filled, PairSettings(rule="all_pairs"))
    assert list(filled.store.pairs.training_pairs(filled.iteration.id, page=2)) == before
    assert [(pair.chosen, pair.rejected) for pair in before] == [
        ("Answer 0.", "Answer 2."), ("Answer 0.", "Answer 1."), ("Answer 0.", "Answer 3."),
        ("Answer 1.", "Answer 2."), ("Answer 3.", "Answer 2."), (PEOPLE.chosen, PEOPLE.rejected),
    ]  # fmt: skip
    assert (before[0].chosen_score, before[0].rejected_score, before[0].soft_label) == (5.0, 1.0, None)
    assert (before[-1].chosen_score, before[-1].rejected_score, before[-1].soft_label) == (None, None, 0.9)


def test_a_prompt_is_too_long_only_when_no_pair_of_it_is_left(several: Several) -> None:
    filled, outcomes = several.filled, several.filled.store.pairs.outcomes
    *most, last = several.pairs
    filled.store.pairs.exclude(filled.iteration.id, most)
    assert outcomes(filled.iteration.id) == {PairOutcome.PAIRED: 1, PairOutcome.TIE: 1}
    filled.store.pairs.exclude(filled.iteration.id, [last])
    assert outcomes(filled.iteration.id) == {PairOutcome.PAIR_TOO_LONG: 1, PairOutcome.TIE: 1}
    assert filled.store.pairs.own(filled.iteration.id) == 0


def test_accumulated_pairs_are_those_of_the_history_up_to_the_iteration(several: Several) -> None:
    filled, store = several.filled, several.filled.store
    first = filled.iteration
    m_2 = store.runs.finish_iteration(first, CheckpointKind.DPO, "models/M_2", "digest-2")
    filled.iteration = store.runs.open_iteration(filled.run.id, 2, m_2.id, filled.settings)
    store.runs.set_judge(filled.iteration.id, filled.judge)
    prompt = filled.prompt("Name a sea.", draw=3)
    filled.candidates(prompt, ["Red.", "Dead."])
    filled.judgements(10, [5.0])
    filled.judgements(11, [1.0])
    decide(filled, PairSettings())
    kept = [pair.pair_id for pair in store.pairs.training_pairs(first.id)]
    mine = [pair.pair_id for pair in store.pairs.training_pairs(filled.iteration.id)]
    both = [pair.pair_id for pair in store.pairs.training_pairs(filled.iteration.id, accumulated=True)]
    assert len(mine) == 1 and both == kept + mine
    assert [pair.pair_id for pair in store.pairs.training_pairs(first.id, accumulated=True)] == kept


def test_anchors_come_only_where_they_are_asked_for(several: Several) -> None:
    filled = several.filled
    assert [each.anchor for each in scored(filled)[0].candidates] == [False] * 4
    anchors = [each for each in scored(filled, filled.checkpoint.id)[0].candidates if each.anchor]
    assert [(each.text, each.scores, each.token_count) for each in anchors] == [("An old answer.", (2.0,), 3)]
    assert not any(each.anchor for each in scored(filled, 99)[0].candidates)


def test_rewards_and_preferences_of_a_judge_are_read_with_the_scores(several: Several) -> None:
    filled = several.filled
    with filled.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE judgement SET reward = score - 2.5 WHERE candidate_id < 3")
        for first, second, probability in ((1, 2, 0.9), (2, 1, 0.3), (3, 1, 0.25)):
            connection.exec_driver_sql(
                "INSERT INTO candidate_comparison (iteration_id, judge_id, first_id, second_id, status,"
                " probability_first, raw_text, token_count, created_at)"
                f" SELECT 1, judge_id, {first}, {second}, 'read', {probability}, '', 1, created_at"
                " FROM judgement WHERE candidate_id = 1"
            )
    [star, moon] = scored(filled)
    assert [each.reward for each in star.candidates] == [2.5, 0.5, None, None]
    assert star.preferences == {(1, 2): pytest.approx(0.8)}, "one order of 1 and 3 alone says nothing"
    assert moon.preferences == {}


def test_a_list_has_a_prompt_once_with_the_widest_of_its_pairs(several: Several) -> None:
    browse, run = several.browse, several.filled.run.id
    for wanted in (PromptFilter(), PromptFilter(least_margin=1.0), PromptFilter(outcome=PairOutcome.PAIRED)):
        row = browse.prompts(run, wanted).rows[0]
        assert (row.id, row.pair_id, row.margin, row.pairs) == (several.prompt, several.pairs[0], 4.0, 5)
    assert [row.id for row in browse.prompts(run, PromptFilter(least_margin=1.0, words="star")).rows] == [1]
    assert len(browse.prompts(run, PromptFilter(least_margin=1.0), limit=1).rows) == 1


def test_imported_prompts_have_a_list_and_a_place_of_their_own(several: Several) -> None:
    browse, run = several.browse, several.filled.run.id
    for t in (None, 1):
        [row] = browse.prompts(run, PromptFilter(source=PromptSource.IMPORTED, t=t)).rows
        assert (row.text, row.t, row.outcome, row.pairs, row.margin) == (PEOPLE.prompt, None, None, 1, None)
    assert browse.prompts(run, PromptFilter(source=PromptSource.IMPORTED, words="moon")).rows == ()
    detail = browse.prompt(run, several.imported)
    assert (detail.source, detail.origin, detail.t, detail.written_by) == ("imported", ORIGIN, 1, None)
    assert detail.pair is not None
    assert (detail.pair.judged_by, detail.pair.origin, detail.pair.soft_label) == (None, ORIGIN, 0.9)
    assert [use.outcome for use in detail.used_by] == ["paired"]
    assert [(each.t, each.written_by, each.mean_score) for each in detail.candidates] == [
        (None, None, None)
    ] * 2
    assert browse.candidate(detail.candidates[0].id).run == "main"


def test_roles_of_candidates_are_told_over_all_pairs(several: Several) -> None:
    detail = several.browse.prompt(several.filled.run.id, several.prompt)
    ids = [pair.id for pair in detail.pairs]
    assert [each.role_in(*ids) for each in detail.candidates] == [
        "chosen",
        "both",
        "rejected",
        "both",
        "other",
    ]
    assert detail.candidates[1].role_in(ids[1]) == "rejected"
    assert [each.anchor for each in detail.candidates] == [False] * 4 + [True]
    assert detail.decision is not None and (detail.decision.pair_id, detail.decision.pairs) == (ids[0], 5)


def shown(several: Several, what: str, *arguments: int) -> str:
    out = io.StringIO()
    sheet = Sheet(console=Console(file=out, width=100))
    getattr(show, f"show_{what}")(getattr(several.browse, what)(*arguments), sheet)
    return out.getvalue()


def test_a_terminal_tells_all_of_it(several: Several) -> None:
    run = several.filled.run.id
    told = shown(several, "prompt", run, several.prompt)
    assert all(f"with pair {pair}" in told for pair in several.pairs)
    assert "chosen and rejected" in told and "by M_1" in told
    people = shown(several, "prompt", run, several.imported)
    assert f"imported from {ORIGIN}" in people and "margin –" in people and "written by" not in people
    detail = several.browse.prompt(run, several.imported)
    assert detail.pair is not None
    pair = shown(several, "pair", detail.pair.id)
    assert ORIGIN in pair and "judged by" not in pair and "0.90" in pair and "judgements of" not in pair
    assert "imported" in shown(several, "candidate", detail.candidates[0].id)


@pytest.fixture
def browser(several: Several, tmp_path: Path) -> Iterator[TestClient]:
    site = Site(store=several.filled.store, settings=several.filled.settings, directory=tmp_path)
    with TestClient(create_app(site), base_url="http://127.0.0.1") as client:
        yield client


def test_a_page_shows_each_pair_and_compares_the_one_that_is_asked_for(
    several: Several, browser: TestClient
) -> None:
    page = browser.get(f"/runs/main/prompts/{several.prompt}").text
    assert "5 pairs" in page and "Widest margin" in page and f'id="pair-{several.pairs[0]}"' in page
    last = several.pairs[-1]
    answer = browser.get(f"/pairs/{last}", follow_redirects=False)
    assert answer.headers["location"] == f"/runs/main/prompts/{several.prompt}?t=1&pair={last}#pair-{last}"
    assert f'id="pair-{last}"' in browser.get(answer.headers["location"]).text


def test_an_imported_pair_has_a_page_and_its_origin_is_only_text(
    several: Several, browser: TestClient
) -> None:
    page = browser.get(f"/runs/main/prompts/{several.imported}")
    assert page.status_code == 200 and "Imported with a preference" in page.text
    assert "people &lt;b&gt;.jsonl" in page.text and "people <b>" not in page.text
    listed = browser.get("/runs/main/prompts?source=imported").text
    assert PEOPLE.prompt in listed and "imported" in listed
    assert "of 5" in browser.get("/runs/main/prompts").text


@pytest.mark.parametrize("page", [1, 2, 3, 50])
def test_an_export_has_every_pair_once_whatever_the_page(several: Several, page: int) -> None:
    exporting = Exporting(several.filled.store.database, page)
    [source] = exporting.sources(several.filled.run.id)
    rows = list(exporting.pairs(source))
    assert len(rows) == 6 and {row.pair_id for row in rows} >= set(several.pairs)
    people = [row for row in rows if row.origin != "ai"]
    assert [(row.origin, row.written_by, row.judge_id, row.margin, row.soft_label) for row in people] == [
        (ORIGIN, None, None, None, 0.9)
    ]
    assert {row.written_by for row in exporting.candidates(source)} == {"M_1"}
    assert len(list(exporting.candidates(source))) == 7


def test_nothing_of_it_is_a_problem_to_verify(several: Several) -> None:
    checks = {check.name: check for check in examine(several.filled.store.database)}
    for name in ("candidates", "pairs", "tallies", "counts"):
        assert checks[name].problems == (), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM imported_preference", "imported pairs are of no imported preference"),
        ("UPDATE pair_decision SET outcome = 'tie'", "pairs have no decision that says so"),
        ("UPDATE candidate SET iteration_id = 1 WHERE iteration_id IS NULL", "not of their iteration"),
    ],
)
def test_what_does_not_fit_is_found(several: Several, change: str, said: str) -> None:
    with several.filled.store.database.write() as connection:
        connection.exec_driver_sql(change)
    problems = [problem for check in examine(several.filled.store.database) for problem in check.problems]
    assert any(said in problem for problem in problems), problems
