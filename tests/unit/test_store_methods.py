"""What the stages of CREAM, anchored pairs and meta-judging store: once, resumable, apart from M_t's own."""

from dataclasses import replace

from selfreward.meta_judging import BestAndWorst
from selfreward.store.candidates import short_of_judgements
from selfreward.store.consistency import PromptConsistency
from selfreward.store.meta import NewJudgementComparison
from selfreward.store.recount import wrong_tallies
from selfreward.types import (
    CandidateStatus,
    CheckpointKind,
    JudgementStatus,
    NewCandidate,
    NewJudgement,
    StageName,
)
from tests.conftest import Filled


def answer(prompt_id: int, index: int, text: str = "from before") -> NewCandidate:
    return NewCandidate(
        prompt_id=prompt_id,
        index=index,
        text=text,
        status=CandidateStatus.OK,
        finish_reason="stop",
        token_count=3,
        mean_logprob=None,
    )


def judgement(candidate_id: int, sample: int, score: float | None) -> NewJudgement:
    return NewJudgement(
        candidate_id=candidate_id,
        sample=sample,
        raw_text=f"Reasons {sample}.\nScore: {score}",
        status=JudgementStatus.UNREADABLE if score is None else JudgementStatus.READ,
        score=score,
        token_count=5,
        finish_reason="stop",
    )


def add_judgements(filled: Filled, judge: int, *rows: NewJudgement) -> None:
    filled.store.candidates.add_judgements(judge, filled.stage(StageName.JUDGE).id, None, rows, 0)


# Anchors


def test_anchors_are_asked_for_once_and_are_none_of_the_models_own(filled: Filled) -> None:
    store, it = filled.store, filled.iteration.id
    prompts = [filled.prompt(f"Prompt {draw}?", draw=draw) for draw in (1, 2)]
    filled.candidates(prompts[0], ["a", "b", "c", "d"])
    stage, model = filled.stage(StageName.ANCHOR), filled.checkpoint.id
    short = store.anchors.short(it, model, 2, 0, 10)
    assert [row.id for row in short] == prompts
    assert min(index for row in short for index in row.missing) > 100, "clear of all that M_t will write"
    rows = [answer(prompts[0], index) for index in short[0].missing]
    for _ in range(2):
        store.anchors.add(it, model, stage.id, None, rows, prompts[0])
    assert store.anchors.count(it) == 2
    assert [row.id for row in store.anchors.short(it, model, 2, 0, 10)] == [prompts[1]]
    [again] = store.prompts.short_of_candidates(it, 4, 0, 10)
    assert (again.id, again.missing) == (prompts[1], (0, 1, 2, 3))


def test_an_anchor_is_judged_in_its_own_stage_and_counted_in_no_tally(filled: Filled) -> None:
    store, it = filled.store, filled.iteration.id
    prompt = filled.prompt("Which?")
    filled.candidates(prompt, ["mine", "mine too"])
    rows = [
        answer(prompt, index) for index in store.anchors.short(it, filled.checkpoint.id, 1, 0, 9)[0].missing
    ]
    store.anchors.add(it, filled.checkpoint.id, filled.stage(StageName.ANCHOR).id, None, rows, prompt)
    own = store.candidates.short_of_judgements(it, filled.judge, 1, 0, 9)
    [anchor] = store.candidates.short_of_judgements(it, filled.judge, 1, 0, 9, anchors=True)
    assert {task.text for task in own} == {"mine", "mine too"} and anchor.text == "from before"
    add_judgements(filled, filled.judge, judgement(own[0].id, 0, 4.0), judgement(anchor.id, 0, 1.0))
    assert store.candidates.judged(it, filled.judge) == (1, 1, 4.0)
    assert store.anchors.judged(it, filled.judge) == (1, 1.0)
    assert sum(store.candidates.statuses(it).values()) == 2
    counts = store.journal.counts(filled.iteration)
    assert (counts[StageName.SAMPLE], counts[StageName.ANCHOR]) == (2, 1)
    assert (counts[StageName.JUDGE], counts[StageName.JUDGE_ANCHOR]) == (1, 1)
    with store.database.read() as connection:
        assert wrong_tallies(connection)[1] == []


# CREAM


def test_consistency_is_stored_once_and_anew_for_another_judge(filled: Filled) -> None:
    store, it = filled.store, filled.iteration.id
    prompts = [filled.prompt(f"Prompt {draw}?", draw=draw) for draw in (1, 2, 3)]
    before = store.runs.add_checkpoint(filled.run.id, 0, CheckpointKind.BASE, "models/M_0", "digest-0")
    theirs = store.candidates.judge(before.id, "rubric", "t.jinja", "0" * 64, {"guided": False})
    assert store.consistency.summary(it) == (None, 0, 0)
    taus = (1.0, 0.0, None)
    rows = [
        PromptConsistency(prompt_id=key, tau=tau, candidates=2)
        for key, tau in zip(prompts, taus, strict=True)
    ]
    for _ in range(2):
        store.consistency.put(it, filled.judge, theirs, rows)
    assert store.consistency.summary(it) == (0.5, 2, 3)
    store.consistency.put(it, theirs, filled.judge, [replace(rows[0], tau=-1.0)])
    assert store.consistency.summary(it) == (-1.0, 1, 1)


def test_what_the_model_before_has_judged_is_counted_apart(filled: Filled) -> None:
    store = filled.store
    filled.candidates(filled.prompt("Which?"), ["a", "b"])
    before = store.runs.add_checkpoint(filled.run.id, 0, CheckpointKind.BASE, "models/M_0", "digest-0")
    theirs = store.candidates.judge(before.id, "rubric", "t.jinja", "0" * 64, {"guided": False})
    another = store.candidates.judge(before.id, "rubric", "t.jinja", "0" * 64, {"guided": True})
    for judge, count in ((filled.judge, 2), (theirs, 1), (another, 2)):
        add_judgements(filled, judge, *(judgement(key, 0, 3.0) for key in range(1, count + 1)))
    counts = store.journal.counts(filled.iteration)
    assert (counts[StageName.JUDGE], counts[StageName.JUDGE_PREVIOUS]) == (2, 1)
    newest = store.progress.newest(StageName.JUDGE_PREVIOUS, filled.iteration)
    assert [tokens for _, tokens in newest.made] == [5]


# Meta-judging


def disputed(filled: Filled) -> int:
    """A judge of judgements; candidates 1 and 2 have three judgements each, one of them unreadable."""
    filled.candidates(filled.prompt("Which?"), ["a", "b"])
    rows = [judgement(key, sample, score) for key in (1, 2) for sample, score in enumerate((1.0, None, 5.0))]
    add_judgements(filled, filled.judge, *rows)
    return filled.store.candidates.judge(filled.checkpoint.id, "meta", "m.jinja", "1" * 64, {"orders": 2})


def compare(filled: Filled, meta: int, *orders: tuple[int, int]) -> None:
    rows = [
        NewJudgementComparison(
            first_id=first,
            second_id=second,
            status=JudgementStatus.READ,
            probability_first=0.75,
            raw_text="",
            token_count=1,
        )
        for first, second in orders
    ]
    stage = filled.stage(StageName.META_JUDGE)
    filled.store.meta.add(filled.iteration.id, meta, stage.id, None, rows, 1)


def test_only_readable_written_judgements_are_compared_and_none_twice(filled: Filled) -> None:
    store, meta = filled.store, disputed(filled)
    assert store.meta.written_scores(filled.iteration.id, filled.judge) == {1: [1.0, 5.0], 2: [1.0, 5.0]}
    tasks = store.meta.tasks([1, 2], filled.judge, meta, 4, 10)
    assert [task.missing for task in tasks] == [((1, 3), (3, 1)), ((4, 6), (6, 4))]
    assert tasks[0].texts == {1: "Reasons 0.\nScore: 1.0", 3: "Reasons 2.\nScore: 5.0"}
    assert store.meta.tasks([1, 2], filled.judge, meta, 4, 1) == tasks[:1]
    for _ in range(2):
        compare(filled, meta, (1, 3), (3, 1), (4, 6))
    [left] = store.meta.tasks([1, 2], filled.judge, meta, 4, 10)
    assert (left.id, left.missing) == (2, ((6, 4),))
    assert store.journal.count(filled.iteration, StageName.META_JUDGE) == 3
    assert len(store.progress.newest(StageName.META_JUDGE, filled.iteration).made) == 3
    assert {key: len(battles) for key, battles in store.meta.battles([1, 2], meta).items()} == {1: 2, 2: 1}


def test_pairs_of_judgements_are_stored_once_trained_on_and_left_out_when_too_long(filled: Filled) -> None:
    store, it = filled.store, filled.iteration.id
    disputed(filled)
    pair = BestAndWorst(chosen_id=3, rejected_id=1, chosen_elo=80.0, rejected_elo=-80.0)
    assert not store.meta.has_pairs(it)
    for _ in range(2):
        store.meta.add_pairs(it, {1: pair, 2: replace(pair, chosen_id=6, rejected_id=4)})
    first, second = store.meta.training_pairs(it)
    assert (first.prompt, first.response) == ("Which?", "a")
    assert (first.chosen, first.rejected) == ("Reasons 2.\nScore: 5.0", "Reasons 0.\nScore: 1.0")
    store.meta.exclude(it, [first.id])
    assert list(store.meta.training_pairs(it)) == [second]
    assert store.meta.pair_count(it) == 1 and store.meta.has_pairs(it)


def test_the_queries_of_the_new_stages_go_through_an_index(filled: Filled) -> None:
    """SQLite's plan does not depend on what is stored."""
    if not filled.store.database.is_sqlite:
        return
    with filled.store.database.read() as connection:
        query = short_of_judgements(1, 1, 3, 0, 64, True).compile(compile_kwargs={"literal_binds": True})
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
    assert "ix_candidate_anchor" in plan[0][3] or "ix_candidate_work" in plan[0][3], plan
