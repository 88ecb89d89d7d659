"""Gathers what the store knows of a run's checkpoints for the report."""

from selfreward.report.data import ReportData
from selfreward.store import Store
from selfreward.types import CheckpointKind, RunRow


def gather_report(store: Store, run: RunRow) -> ReportData:
    """Everything the report shows of a run, and of what it was forked from.

    Raises BadInput when nothing has been evaluated yet.
    """
    pairs: dict[int, int] = {}
    for link in store.runs.lineage(run.id):
        pairs |= {t: n for t, n in store.pairs.counts(link.run_id).items() if link.holds_iteration(t)}
    return ReportData(
        run=run.name,
        rows=store.evaluations.rows(run.id),
        checkpoints=[row for row in store.runs.checkpoints(run.id) if row.kind is not CheckpointKind.REWARD],
        pairs=dict(sorted(pairs.items())),
        gates=store.gates.rows(run.id),
        score_histogram=store.evaluations.score_histogram(run.id),
    )
