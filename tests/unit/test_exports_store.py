"""The rows that leave the database, on both databases: which they are, and that pages lose none."""

import pytest

from selfreward.store.exported import Source, assistant, user
from selfreward.store.exporting import Exporting
from selfreward.types import (
    CandidateStatus,
    DropReason,
    ExampleKind,
    NewCandidate,
    NewExample,
    PairDecision,
    PairOutcome,
    PreferencePair,
    StageName,
)
from tests.conftest import Filled

TEXT = "nul \x00, half \ud83e, mark \ufffd0000"
STORED = "nul \ufffd0000, half \ufffdD83E, mark \ufffdFFFD0000"


def source_of(filled: Filled, t: int = 1) -> Source:
    [source] = [one for one in Exporting(filled.store.database).sources(filled.run.id) if one.t == t]
    return source


def exporting(filled: Filled, page: int = 2) -> Exporting:
    return Exporting(filled.store.database, page)


def candidate_ids(filled: Filled) -> list[int]:
    return [row.candidate_id for row in exporting(filled).candidates(source_of(filled))]


def answered(filled: Filled, prompts: int, texts: tuple[str, ...] = ("a", "b")) -> list[int]:
    """Prompts with an answer for each text; their ids."""
    ids = [filled.prompt(f"prompt {number} {TEXT}", draw=number) for number in range(1, prompts + 1)]
    for prompt_id in ids:
        filled.candidates(prompt_id, [f"{text} {TEXT}" for text in texts])
    return ids


def paired(filled: Filled, prompts: list[int]) -> None:
    """The second of each prompt's two answers over the first."""
    ids = candidate_ids(filled)
    decisions = [
        PairDecision(
            prompt_id=prompt_id,
            outcome=PairOutcome.PAIRED,
            pairs=(
                PreferencePair(
                    prompt_id=prompt_id,
                    chosen_id=ids[2 * place + 1],
                    rejected_id=ids[2 * place],
                    chosen_score=4.0,
                    rejected_score=1.5,
                ),
            ),
        )
        for place, prompt_id in enumerate(prompts)
    ]
    stage = filled.stage(StageName.PAIR)
    filled.store.pairs.decide(filled.iteration.id, filled.judge, stage.id, decisions, prompts[-1])


def test_pairs_come_with_texts_scores_and_who_made_them(filled: Filled) -> None:
    prompts = answered(filled, 5)
    paired(filled, prompts)
    first, *others = exporting(filled).pairs(source_of(filled))
    assert len(others) == 4
    assert first.prompt == user(f"prompt 1 {STORED}")
    assert first.chosen == assistant(f"b {STORED}") and first.rejected == assistant(f"a {STORED}")
    assert (first.chosen_score, first.rejected_score, first.margin) == (4.0, 1.5, 2.5)
    assert (first.run, first.iteration, first.written_by, first.judged_by) == ("main", 1, "M_1", "M_1")
    assert first.prompt_id == prompts[0] and first.judge_id == filled.judge and first.excluded is None


def test_excluded_pairs_come_only_when_asked_for(filled: Filled) -> None:
    paired(filled, answered(filled, 3))
    source = source_of(filled)
    second = list(exporting(filled).pairs(source))[1]
    filled.store.pairs.exclude(filled.iteration.id, [second.pair_id])
    kept = [row.pair_id for row in exporting(filled).pairs(source)]
    every = {row.pair_id: row.excluded for row in exporting(filled).pairs(source, with_excluded=True)}
    assert second.pair_id not in kept and len(kept) == 2
    assert every == {**dict.fromkeys(kept), second.pair_id: "too_long"}


def test_candidates_come_with_the_mean_of_what_could_be_read(filled: Filled) -> None:
    answered(filled, 1, ("a", "b", "c"))
    first, second, _ = candidate_ids(filled)
    filled.judgements(first, [5.0, None, 2.0])
    filled.judgements(second, [None])
    found = [
        (row.mean_score, row.judgements, row.readable)
        for row in exporting(filled).candidates(source_of(filled))
    ]
    assert found == [(3.5, 3, 2), (None, 1, 0), (None, 0, 0)]


def test_a_log_probability_that_is_not_finite_becomes_null(filled: Filled) -> None:
    prompt_id = filled.prompt("prompt")
    endless = NewCandidate(
        prompt_id=prompt_id,
        index=0,
        text="a",
        status=CandidateStatus.OK,
        finish_reason="stop",
        token_count=1,
        mean_logprob=float("-inf"),
    )
    stage = filled.stage(StageName.SAMPLE)
    filled.store.candidates.add(filled.iteration.id, stage.id, None, [endless], prompt_id)
    [row] = exporting(filled).candidates(source_of(filled))
    assert row.mean_logprob is None


def test_judgements_come_with_what_was_judged_and_only_those_that_count(filled: Filled) -> None:
    answered(filled, 2)
    ids = candidate_ids(filled)
    for key in ids:
        filled.judgements(key, [4.0, None])
    other = filled.store.candidates.judge(filled.checkpoint.id, "rubric", "u.jinja", "1" * 64, {})
    filled.judge, counts = other, filled.judge
    filled.judgements(ids[0], [1.0])
    rows = list(exporting(filled).judgements(source_of(filled)))
    assert [(row.candidate_id, row.sample, row.score) for row in rows] == [
        (key, sample, score) for key in ids for sample, score in ((0, 4.0), (1, None))
    ]
    assert rows[0].response == f"a {STORED}" and rows[0].prompt == f"prompt 1 {STORED}"
    assert {row.judge_id for row in rows} == {counts} and rows[0].template == "t.jinja"
    assert rows[1].status == "unreadable" and rows[1].raw_text == "Score: None"


def test_the_best_answer_of_each_prompt_is_the_first_of_the_highest(filled: Filled) -> None:
    answered(filled, 3, ("a", "b", "c"))
    ids = candidate_ids(filled)
    for key, score in zip(ids, [1.0, 4.0, 4.0, 2.0, None, 3.0], strict=False):
        filled.judgements(key, [score])
    best = list(exporting(filled).best(source_of(filled)))
    assert [(row.candidate_id, row.score) for row in best] == [(ids[1], 4.0), (ids[5], 3.0)]
    assert best[0].completion == assistant(f"b {STORED}") and best[0].source == "best"
    [least] = exporting(filled).best(source_of(filled), least_score=3.5)
    assert least.candidate_id == ids[1]
    assert list(exporting(filled).best(source_of(filled), min_scores=2)) == []


def test_examples_are_those_that_the_bootstrap_kept(filled: Filled) -> None:
    prompt_id = filled.prompt("prompt")
    rows = [
        NewExample(kind=ExampleKind.IFT, prompt_id=prompt_id, input="ask", completion=TEXT),
        NewExample(
            kind=ExampleKind.EFT,
            prompt_id=prompt_id,
            input="judge",
            completion="Score: 4",
            score=4.0,
            drop_reason=DropReason.SURPLUS,
        ),
    ]
    filled.store.examples.add(filled.iteration.id, rows)
    [row] = exporting(filled).examples(source_of(filled))
    assert row.prompt == user("ask") and row.completion == assistant(STORED)
    assert (row.source, row.score, row.written_by, row.candidate_id) == ("ift", None, None, None)


@pytest.mark.parametrize("page", [1, 2, 3, 6, 7])
def test_no_page_size_loses_or_repeats_a_row(filled: Filled, page: int) -> None:
    answered(filled, 3)
    ids = [row.candidate_id for row in exporting(filled, page).candidates(source_of(filled))]
    assert len(ids) == 6 and ids == sorted(set(ids))
