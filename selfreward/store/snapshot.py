"""What a monitor asks for: figures of the newest runs at one moment, in milliseconds however long they are.

Every query gives rows of labels with a number at their end. Rows that a finished iteration has made are
counted once and remembered; candidates and judgements are counted as they are stored (`candidate_tally`,
`judgement_tally`).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, func, select

from selfreward.store.rows import AnySelect
from selfreward.store.schema import (
    CandidateTally,
    Checkpoint,
    EngineSession,
    Evaluation,
    GateCheck,
    ItemFailure,
    Iteration,
    JudgementTally,
    PairDecision,
    Prompt,
    Stage,
    TrainingMetric,
)
from selfreward.store.standing import Row, Rows, Standing
from selfreward.types import PromptSource, StageName, Status

Counts = dict[int, list[Row]]
"""By iteration: labels and a number."""


@dataclass(frozen=True)
class Memory:
    """What cannot change any more, by the name of a count and the iteration: kept from scrape to scrape."""

    counts: dict[str, Counts] = field(default_factory=lambda: defaultdict(dict))


class Snapshot(Standing):
    """The figures, within one read transaction."""

    def __init__(self, connection: Connection, memory: Memory) -> None:
        super().__init__(connection)
        self._memory = memory

    def prompts(self) -> Rows:
        """(run, status, reason, prompts that models wrote)."""
        reason = func.coalesce(Prompt.reject_reason, "")
        query = (
            select(Prompt.iteration_id, Prompt.status, reason, func.count())
            .where(Prompt.source == PromptSource.SELF_INSTRUCT)
            .group_by(Prompt.iteration_id, Prompt.status, reason)
        )
        yield from self._remembered("prompt", query, Prompt.iteration_id)

    def pair_decisions(self) -> Rows:
        """(run, outcome, prompts)."""
        key = PairDecision.iteration_id
        query = select(key, PairDecision.outcome, func.count()).group_by(key, PairDecision.outcome)
        yield from self._remembered("pair_decision", query, key)

    def candidates(self) -> Rows:
        """(run, status, candidates)."""
        yield from self._tallied(CandidateTally, CandidateTally.candidates, CandidateTally.status)

    def judgements(self) -> Rows:
        """(run, status, judgements) of its candidates, by whomever."""
        yield from self._tallied(JudgementTally, JudgementTally.judgements, JudgementTally.status)

    def tokens(self) -> Rows:
        """(run, stage, tokens written)."""
        for stage, table in ((StageName.SAMPLE, CandidateTally), (StageName.JUDGE, JudgementTally)):
            for run, count in self._tallied(table, table.tokens):
                yield run, stage, count

    def mean_scores(self) -> Rows:
        """(run, mean of the readable scores of the current iteration, by whomever)."""
        sums = func.sum(JudgementTally.score_sum), func.sum(JudgementTally.judgements)
        mine = {here.iteration_id: here.run for here in self.now.values()}
        query = select(JudgementTally.iteration_id, *sums).where(
            JudgementTally.iteration_id.in_(mine), JudgementTally.status == "read"
        )
        for key, total, count in self._rows(query.group_by(JudgementTally.iteration_id)):
            yield mine[key], float(total) / int(count)

    def sessions(self) -> Rows:
        """(run, engine sessions)."""
        yield from self._by_iteration(EngineSession, func.count())

    def session_tokens(self, column: str) -> Rows:
        """(run, tokens of a kind) that its sessions have noted."""
        yield from self._by_iteration(EngineSession, func.sum(getattr(EngineSession, column)))

    def failures(self) -> Rows:
        """(run, stage, failed tries of items)."""
        query = (
            select(Iteration.run_id, Stage.name, func.sum(ItemFailure.attempts))
            .join(Stage, Stage.id == ItemFailure.stage_id)
            .join(Iteration, Iteration.id == Stage.iteration_id)
            .group_by(Iteration.run_id, Stage.name)
        )
        yield from self._by_run(query, Iteration.run_id)

    def gates(self) -> Rows:
        """(run, gate, state, value, limit) of the newest iteration that was checked."""
        newest = (
            select(Iteration.run_id, func.max(Iteration.t).label("t"))
            .where(Iteration.id.in_(select(GateCheck.iteration_id)))
            .group_by(Iteration.run_id)
            .subquery()
        )
        query = (
            select(Iteration.run_id, GateCheck.gate, GateCheck.state, GateCheck.value, GateCheck.limit_value)
            .join(Iteration, Iteration.id == GateCheck.iteration_id)
            .join(newest, and_(newest.c.run_id == Iteration.run_id, newest.c.t == Iteration.t))
        )
        yield from self._by_run(query, Iteration.run_id)

    def training(self, *names: str) -> Rows:
        """(run, stage, value) of the last step that told any of these figures, in the newest training."""
        for key, here in self.now.items():
            row = self._connection.execute(_last_step(key, names)).first()
            if row is not None:
                yield here.run, row.stage, row.value

    def training_steps(self) -> Rows:
        """(run, stage, last optimiser step) of the newest training."""
        for key, here in self.now.items():
            row = self._connection.execute(_last_step(key, ("loss",))).first()
            if row is not None:
                yield here.run, row.stage, row.step

    def evaluations(self, column: str) -> Rows:
        """(run, checkpoint, suite, metric, value or an end of its interval) of the newest measured."""
        newest = (
            select(Evaluation.run_id, func.max(Checkpoint.version).label("version"))
            .join(Checkpoint, _same_checkpoint())
            .group_by(Evaluation.run_id)
            .subquery()
        )
        query = (
            select(
                Evaluation.run_id,
                Evaluation.checkpoint,
                Evaluation.suite,
                Evaluation.metric,
                getattr(Evaluation, column),
            )
            .join(Checkpoint, _same_checkpoint())
            .join(
                newest,
                and_(newest.c.run_id == Evaluation.run_id, newest.c.version == Checkpoint.version),
            )
            .where(getattr(Evaluation, column).is_not(None))
        )
        yield from self._by_run(query, Evaluation.run_id)

    def checkpoints(self) -> Rows:
        """(run, "kept" or "removed", its own checkpoints)."""
        query = select(Checkpoint.run_id, Checkpoint.removed_at.is_(None), func.count())
        grouped = query.group_by(Checkpoint.run_id, Checkpoint.removed_at.is_(None))
        for run, kept, count in self._by_run(grouped, Checkpoint.run_id):
            yield run, "kept" if kept else "removed", count

    def checkpoint_paths(self) -> Rows:
        """(run, path from the root's directory) of every checkpoint whose files are kept."""
        kept = select(Checkpoint.run_id, Checkpoint.path).where(Checkpoint.removed_at.is_(None))
        yield from self._by_run(kept, Checkpoint.run_id)

    def database_bytes(self) -> int:
        """Size of the database, without SQLite's write-ahead log."""
        if self._connection.dialect.name == "postgresql":
            return int(
                self._connection.execute(select(func.pg_database_size(func.current_database()))).scalar_one()
            )
        pages, size = (self._connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in _PAGES)
        return int(pages) * int(size)

    def _by_iteration(self, table: Any, value: Any) -> Rows:
        """(run, value) of all rows of its iterations."""
        found = dict.fromkeys(self.runs.values(), 0)
        query = select(Iteration.run_id, func.coalesce(value, 0)).join(
            table, table.iteration_id == Iteration.id
        )
        found |= {
            run: int(count) for run, count in self._by_run(query.group_by(Iteration.run_id), Iteration.run_id)
        }
        yield from found.items()

    def _tallied(self, table: Any, value: Any, *labels: Any) -> Rows:
        query = (
            select(Iteration.run_id, *labels, func.sum(value))
            .join(table, table.iteration_id == Iteration.id)
            .group_by(Iteration.run_id, *labels)
        )
        for *names, count in self._by_run(query, Iteration.run_id):
            yield *names, int(count)

    def _remembered(self, name: str, query: AnySelect, key: Any) -> Rows:
        """Sums by run of what a query counts by iteration; of finished iterations it is asked once."""
        of_run = select(Iteration.id, Iteration.run_id, Iteration.status).where(
            Iteration.run_id.in_(self.runs)
        )
        iterations = {each: (run, status) for each, run, status in self._rows(of_run)}
        known = self._memory.counts[name]
        counts: Counts = {each: known[each] for each in iterations if each in known}
        unknown = [each for each in iterations if each not in known]
        counts |= {each: [] for each in unknown}
        for each, *row in self._rows(query.where(key.in_(unknown))) if unknown else ():
            counts[each].append(tuple(row))
        known |= {each: counts[each] for each in unknown if iterations[each][1] == Status.DONE}
        yield from _summed((self.runs[iterations[each][0]], rows) for each, rows in counts.items())


_PAGES = ("page_count", "page_size")


def _last_step(run_id: int, names: Sequence[str]) -> AnySelect:
    """The newest row of a run's training metrics of these names: the primary key finds it."""
    newest = select(func.max(Iteration.id)).where(
        Iteration.run_id == run_id,
        select(TrainingMetric.step).where(TrainingMetric.iteration_id == Iteration.id).exists(),
    )
    return (
        select(TrainingMetric.stage, TrainingMetric.step, TrainingMetric.value)
        .where(TrainingMetric.iteration_id == newest.scalar_subquery(), TrainingMetric.name.in_(names))
        .order_by(TrainingMetric.stage.desc(), TrainingMetric.attempt.desc(), TrainingMetric.step.desc())
        .limit(1)
    )


def _same_checkpoint() -> Any:
    return and_(Checkpoint.run_id == Evaluation.run_id, Checkpoint.name == Evaluation.checkpoint)


def _summed(parts: Iterable[tuple[str, list[Row]]]) -> Rows:
    total: dict[Row, int] = defaultdict(int)
    for run, rows in parts:
        for *labels, count in rows:
            total[(run, *labels)] += count
    yield from ((*labels, count) for labels, count in total.items())
