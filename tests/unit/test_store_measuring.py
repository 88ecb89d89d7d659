"""Figures, gates, the places of what is measured, and the views over it, on both databases."""

from dataclasses import replace

import pytest

from selfreward.store import Store
from selfreward.types import (
    CheckpointRow,
    EvaluationRow,
    Gate,
    GateResult,
    GateState,
    IterationRow,
    Metric,
    MetricPoint,
    StageName,
    Status,
    Suite,
    Verdict,
)
from tests.measured_run import Measured, answers_compared, examples_of


@pytest.fixture
def measured(store: Store) -> Measured:
    """A store with held-out seeds in it."""
    return Measured(store)


def figure(checkpoint: str, metric: Metric, value: float | None, suite: Suite = Suite.JUDGE) -> EvaluationRow:
    """A figure with an interval around it."""
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return EvaluationRow(
        checkpoint=checkpoint, suite=suite, metric=metric, value=value, low=low, high=high, n=7
    )


def test_figures_replace_earlier_ones_of_their_checkpoint_and_suite(measured: Measured) -> None:
    measured.more(2)
    rows = [
        figure("M_1", Metric.READABLE_SHARE, 0.5),
        figure("M_1", Metric.KENDALL, None),
        figure("M_1", Metric.MEAN_LENGTH, 40.0, Suite.ASSISTANT),
        figure("M_2", Metric.READABLE_SHARE, 0.75),
    ]
    evaluations, run = measured.store.evaluations, measured.run.id
    evaluations.put(run, rows)
    assert evaluations.rows(run) == rows
    anew = figure("M_1", Metric.READABLE_SHARE, 0.625)
    evaluations.put(run, [anew])
    assert evaluations.rows(run) == [rows[2], rows[3], anew]
    evaluations.put(run, [])
    assert len(evaluations.rows(run)) == 3
    assert evaluations.rows(measured.store.runs.ensure("other").id) == []


def test_a_figure_is_found_by_checkpoint_suite_and_metric(measured: Measured) -> None:
    row = figure("M_1", Metric.PAIRWISE_ACCURACY, 0.5)
    measured.store.evaluations.put(measured.run.id, [row, figure("M_1", Metric.SPEARMAN, 0.25)])
    find = measured.store.evaluations.figure
    assert find(measured.run.id, "M_1", Suite.JUDGE, Metric.PAIRWISE_ACCURACY) == row
    assert find(measured.run.id, "M_1", Suite.ASSISTANT, Metric.PAIRWISE_ACCURACY) is None
    assert find(measured.run.id, "M_2", Suite.JUDGE, Metric.PAIRWISE_ACCURACY) is None


def judged_held_out(measured: Measured) -> None:
    """M_2 and M_1 have judged held-out replies, a canary, and a reply to learn from."""
    other = measured.judge_of(measured.more(2))
    good, poor = measured.reply_ids(measured.first)
    measured.reply_judgements(good, [4.5, 5.0, None], other)
    measured.reply_judgements(good, [2.0])
    measured.reply_judgements(poor, [2.0, 1.4])
    measured.reply_judgements(measured.canary(), [5.0])
    measured.reply_judgements(measured.reply_ids(measured.learnt)[0], [3.0])


def test_the_histogram_is_of_real_held_out_replies_only(measured: Measured) -> None:
    judged_held_out(measured)
    assert measured.store.evaluations.score_histogram(measured.run.id) == {"M_1": {1: 1, 2: 2}, "M_2": {5: 2}}
    assert list(measured.store.evaluations.score_histogram(measured.run.id)) == ["M_1", "M_2"]
    assert measured.store.evaluations.score_histogram(measured.run.id + 1) == {}


def test_held_out_scores_in_sql_count_unreadable_ones_too(measured: Measured) -> None:
    judged_held_out(measured)
    rows = measured.sql("SELECT run, checkpoint, score, judgements FROM held_out_scores")
    assert sorted(rows, key=repr) == sorted(
        [
            ("main", "M_1", 2.0, 2), ("main", "M_1", 1.4, 1),
            ("main", "M_2", 4.5, 1), ("main", "M_2", 5.0, 1), ("main", "M_2", None, 1),
        ],
        key=repr,
    )  # fmt: skip


def found(gate: Gate, state: GateState) -> GateResult:
    """What a gate found."""
    return GateResult(gate=gate, state=state, value=0.5, limit=0.9, message=f"{gate} is 0.5")


def test_what_gates_find_replaces_what_they_found_before(measured: Measured) -> None:
    gates, iteration = measured.store.gates, measured.iteration
    gates.put(iteration.id, [found(Gate.TIE_SHARE, GateState.WARN), found(Gate.SPREAD, GateState.OK)])
    anew = replace(found(Gate.SPREAD, GateState.PAUSE), value=None)
    gates.put(iteration.id, [anew])
    assert gates.rows(measured.run.id) == [(iteration.t, anew)]
    gates.put(iteration.id, [])
    assert gates.rows(measured.run.id) == []


def test_only_what_paused_is_accepted_and_only_in_its_iteration(measured: Measured) -> None:
    store = measured.store
    later = store.runs.open_iteration(measured.run.id, 2, measured.more(2).id, measured.settings)
    results = [
        found(Gate.LENGTH_GROWTH, GateState.WARN),
        found(Gate.READABLE_SHARE, GateState.PAUSE),
        found(Gate.SPREAD, GateState.SKIPPED),
    ]
    for iteration in (later, measured.iteration):
        store.gates.put(iteration.id, results)
    store.gates.accept(measured.iteration.id)
    assert [(t, result.gate, result.state) for t, result in store.gates.rows(measured.run.id)] == [
        (1, Gate.LENGTH_GROWTH, GateState.WARN),
        (1, Gate.READABLE_SHARE, GateState.ACCEPTED),
        (1, Gate.SPREAD, GateState.SKIPPED),
        (2, Gate.LENGTH_GROWTH, GateState.WARN),
        (2, Gate.READABLE_SHARE, GateState.PAUSE),
        (2, Gate.SPREAD, GateState.SKIPPED),
    ]


def bootstrap_of(measured: Measured) -> tuple[CheckpointRow, IterationRow]:
    """M_0, and iteration 0 in which it works."""
    base = measured.more(0)
    return base, measured.store.runs.open_iteration(measured.run.id, 0, base.id, measured.settings)


def test_the_sft_baseline_stands_beside_m_0(measured: Measured) -> None:
    base, baseline = measured.more(0), measured.more(0, "M_0_ift")
    runs, run = measured.store.runs, measured.run.id
    assert base.version == baseline.version == 0 and base.id != baseline.id
    assert runs.checkpoint(run, 0) == runs.checkpoint_named(run, "M_0") == base
    assert runs.checkpoint_named(run, "M_0_ift") == runs.checkpoint_by_id(baseline.id) == baseline
    assert [row.name for row in runs.checkpoints(run)] == ["M_0", "M_0_ift", "M_1"]
    assert runs.checkpoint_named(run, "M_7") is None
    assert measured.more(0, "M_0_ift") == baseline


def test_an_iteration_that_is_only_measured_is_not_the_latest(measured: Measured) -> None:
    runs, run = measured.store.runs, measured.run.id
    later = measured.more(2)
    pending = runs.open_iteration(run, 2, later.id, measured.settings, work=False)
    assert pending.status is Status.PENDING and pending.data_iteration_id == pending.id
    latest = runs.latest_iteration(run)
    assert latest is not None and latest.t == 1
    assert runs.iteration(run, 2) == pending
    assert runs.open_iteration(run, 2, later.id, measured.settings) == replace(pending, status=Status.RUNNING)
    latest = runs.latest_iteration(run)
    assert latest is not None and latest.t == 2


def test_measuring_leaves_an_iteration_that_is_there_as_it_is(measured: Measured) -> None:
    runs = measured.store.runs
    runs.mark_iteration(measured.iteration.id, Status.DONE)
    other = measured.settings.model_copy(update={"seed": measured.settings.seed + 1})
    again = runs.open_iteration(measured.run.id, 1, measured.checkpoint.id, other, work=False)
    assert again == replace(measured.iteration, status=Status.DONE)


def test_a_stage_that_is_done_is_looked_through_once_more(measured: Measured) -> None:
    stage = measured.reply_judgements(measured.reply_ids(measured.first)[1], [1.0])
    runs = measured.store.runs
    assert stage.cursor > 0
    runs.finish_stage(stage.id, "fine")
    runs.reopen_stage(measured.iteration.id, StageName.JUDGE_HELD_OUT)
    opened = runs.stage(measured.iteration.id, StageName.JUDGE_HELD_OUT)
    assert opened is not None and (opened.status, opened.cursor) == (Status.PENDING, 0)
    assert measured.stage(StageName.JUDGE_HELD_OUT).attempts == stage.attempts + 1


def test_a_stage_that_runs_keeps_its_place(measured: Measured) -> None:
    stage = measured.reply_judgements(measured.reply_ids(measured.first)[1], [1.0])
    measured.store.runs.reopen_stage(measured.iteration.id, StageName.JUDGE_HELD_OUT)
    measured.store.runs.reopen_stage(measured.iteration.id, StageName.COMPARE)
    assert measured.store.runs.stage(measured.iteration.id, StageName.JUDGE_HELD_OUT) == stage
    assert measured.store.runs.stage(measured.iteration.id, StageName.COMPARE) is None


def test_progress_counts_what_the_bootstrap_and_the_measuring_do(measured: Measured) -> None:
    other, ids = answers_compared(measured)
    measured.compare(ids["M_2", measured.first], ids["M_1", measured.first], Verdict.FIRST)
    measured.reply_judgements(measured.reply_ids(measured.first)[0], [5.0, None])
    measured.reply_judgements(measured.reply_ids(measured.first)[0], [5.0], measured.judge_of(other))
    measured.store.examples.add(measured.iteration.id, examples_of(measured))
    points = [MetricPoint(step=step, name="loss", value=1.0) for step in (1, 2, 3)]
    measured.store.journal.add_metrics(measured.iteration.id, StageName.BASELINE, 1, points)
    counts = measured.store.journal.counts(measured.iteration)
    assert {name: number for name, number in counts.items() if number} == {
        StageName.ANSWER_HELD_OUT: 2,
        StageName.COMPARE: 1,
        StageName.JUDGE_HELD_OUT: 2,
        StageName.SELECT: 3,
        StageName.BASELINE: 3,
    }


def test_bootstrap_examples_in_sql_are_counted_by_outcome(measured: Measured) -> None:
    measured.store.examples.add(measured.iteration.id, examples_of(measured))
    query = "SELECT run, kind, outcome, examples FROM bootstrap_examples ORDER BY kind, outcome"
    assert measured.sql(query) == [
        ("main", "eft", "common_score", 1), ("main", "eft", "kept", 1), ("main", "ift", "kept", 1),
    ]  # fmt: skip


def test_the_summary_has_no_iteration_that_is_only_measured(measured: Measured) -> None:
    measured.store.runs.open_iteration(measured.run.id, 2, measured.more(2).id, measured.settings, work=False)
    assert measured.sql("SELECT t, trained FROM iteration_summary") == [(1, "M_2")]


def test_the_summary_of_the_bootstrap_is_one_row_with_the_baseline_beside(measured: Measured) -> None:
    bootstrap_of(measured)
    measured.more(0, "M_0_ift")
    query = "SELECT t, checkpoint, trained FROM iteration_summary ORDER BY t"
    assert measured.sql(query) == [(0, "M_0", "M_1"), (1, "M_1", None)]


def test_curve_and_summary_show_the_train_stage_and_not_the_baseline(measured: Measured) -> None:
    _, bootstrap = bootstrap_of(measured)
    add = measured.store.journal.add_metrics
    add(bootstrap.id, StageName.BASELINE, 9, [MetricPoint(step=50, name="loss", value=9.0)])
    add(bootstrap.id, StageName.TRAIN, 1, [MetricPoint(step=1, name="loss", value=3.0)])
    add(bootstrap.id, StageName.TRAIN, 2, [MetricPoint(step=1, name="loss", value=2.0)])
    assert measured.sql("SELECT t, step, loss FROM training_curve") == [(0, 1, 2.0)]
    assert measured.sql("SELECT steps FROM iteration_summary WHERE t = 0") == [(1,)]
