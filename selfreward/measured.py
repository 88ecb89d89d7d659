"""Gathers what the store knows of a run's checkpoints for the report."""

from selfreward.report_data import ReportData
from selfreward.store import Store
from selfreward.types import RunRow


def gather_report(store: Store, run: RunRow) -> ReportData:
    """Everything the report shows of a run. Raises BadInput when nothing has been evaluated yet."""
    return ReportData(
        run=run.name,
        rows=store.evaluations.rows(run.id),
        checkpoints=store.runs.checkpoints(run.id),
        pairs=store.pairs.counts(run.id),
        gates=store.gates.rows(run.id),
        score_histogram=store.evaluations.score_histogram(run.id),
    )
