"""Runs, their iterations and stages, their checkpoints and settings: the skeleton of the loop."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select, update

from selfreward.config import Settings
from selfreward.store.checkpoints import Checkpoints, insert_checkpoint
from selfreward.store.lineage import RunNode, counted_iterations, lineage, nodes
from selfreward.store.rows import AnyRow, insert_new, now
from selfreward.store.schema import Iteration, Run, Setting, Stage
from selfreward.store.stages import Stages
from selfreward.types import CheckpointKind, CheckpointRow, IterationRow, RunRow, StageName, Status


class Runs(Checkpoints, Stages):
    """Queries about runs and iterations, and about their checkpoints, stages and engine sessions."""

    def ensure(self, name: str) -> RunRow:
        """The run of this name, made if it is not there."""
        with self._database.write() as connection:
            insert_new(connection, Run, [{"name": name, "created_at": now()}])
        run = self.find(name)
        assert run is not None
        return run

    def find(self, name: str) -> RunRow | None:
        """The run of this name."""
        query = select(Run.id, Run.name, Run.created_at).where(Run.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else RunRow(id=row.id, name=row.name, created_at=row.created_at)

    def names(self) -> list[str]:
        """All runs, oldest first."""
        with self._database.read() as connection:
            return list(connection.scalars(select(Run.name).order_by(Run.id)))

    def tree(self) -> dict[int, RunNode]:
        """Every run with its place in the tree, by id, oldest first."""
        with self._database.read() as connection:
            return nodes(connection)

    def node(self, run_id: int) -> RunNode:
        """A run's place in the tree."""
        return self.tree()[run_id]

    def iterations_done(self) -> dict[int, int]:
        """How many iterations of its own each run has done, by the run's id."""
        done = select(Iteration.run_id, func.count()).where(Iteration.status == Status.DONE)
        with self._database.read() as connection:
            return {key: count for key, count in connection.execute(done.group_by(Iteration.run_id))}

    def latest_iteration(self, run_id: int) -> IterationRow | None:
        """The iteration with the greatest t that has been worked on; one that was only measured is none."""
        begun = (Iteration.run_id == run_id) & (Iteration.status != Status.PENDING)
        query = select(*_ITERATION).where(begun).order_by(Iteration.t.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _iteration(row)

    def iteration(self, run_id: int, t: int) -> IterationRow | None:
        """Iteration t of a run, worked on or only measured."""
        query = select(*_ITERATION).where(Iteration.run_id == run_id, Iteration.t == t)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _iteration(row)

    def iteration_in_history(self, run_id: int, t: int) -> IterationRow | None:
        """Iteration t of a run, or of the run it was forked from."""
        with self._database.read() as connection:
            mine = counted_iterations(lineage(connection, run_id)) & (Iteration.t == t)
            row = connection.execute(select(*_ITERATION).where(mine)).one_or_none()
        return None if row is None else _iteration(row)

    def settings_of(self, iteration: IterationRow) -> Mapping[str, Any]:
        """The settings that an iteration was last worked on with, as the nested tables they are."""
        query = select(Setting.body).where(Setting.hash == iteration.setting_hash)
        with self._database.read() as connection:
            return dict(connection.execute(query).scalar_one())

    def set_judge(self, iteration_id: int, judge_id: int) -> None:
        """From now on this judge's judgements of the iteration's candidates count."""
        other = Iteration.judge_id.is_distinct_from(judge_id)
        with self._database.write() as connection:
            connection.execute(
                update(Iteration).where(Iteration.id == iteration_id, other).values(judge_id=judge_id)
            )

    def judge(self, iteration_id: int) -> int | None:
        """Whose judgements of the iteration's candidates count; None before there are any."""
        query = select(Iteration.judge_id).where(Iteration.id == iteration_id)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def open_iteration(
        self, run_id: int, t: int, checkpoint_id: int, settings: Settings, work: bool = True
    ) -> IterationRow:
        """Iteration t, made if it is not there, with the settings it runs under, marked as running.

        Without `work` it is only where the measuring of its checkpoint belongs: made as pending, or left
        as it is.
        """
        body = settings.model_dump(mode="json")
        with self._database.write() as connection:
            insert_new(connection, Setting, [{"hash": settings.digest(), "body": body, "created_at": now()}])
            new = {
                "run_id": run_id,
                "t": t,
                "checkpoint_id": checkpoint_id,
                "setting_hash": settings.digest(),
                "status": Status.PENDING,
                "started_at": now(),
            }
            insert_new(connection, Iteration, [new])
            mine = (Iteration.run_id == run_id) & (Iteration.t == t)
            if work:
                running = {"status": Status.RUNNING, "setting_hash": settings.digest()}
                connection.execute(update(Iteration).where(mine).values(**running))
            row = connection.execute(select(*_ITERATION).where(mine)).one()
            if row.data_iteration_id is None:
                connection.execute(update(Iteration).where(mine).values(data_iteration_id=row.id))
                row = connection.execute(select(*_ITERATION).where(mine)).one()
        return _iteration(row)

    def mark_iteration(self, iteration_id: int, status: Status) -> None:
        """Set an iteration's status."""
        with self._database.write() as connection:
            connection.execute(update(Iteration).where(Iteration.id == iteration_id).values(status=status))

    def finish_iteration(
        self,
        iteration: IterationRow,
        kind: CheckpointKind,
        path: str,
        digest: str,
        parent_id: int | None = None,
    ) -> CheckpointRow:
        """Record M_{t+1} and close iteration t and its train stage, in one transaction.

        `parent_id` is what it was trained from; unset, M_t.
        """
        with self._database.write() as connection:
            version, parent = iteration.t + 1, parent_id or iteration.checkpoint_id
            insert_checkpoint(
                connection, iteration.run_id, version, f"M_{version}", kind, path, digest, parent
            )
            done = {"status": Status.DONE, "finished_at": now()}
            connection.execute(update(Iteration).where(Iteration.id == iteration.id).values(**done))
            train = (Stage.iteration_id == iteration.id) & (Stage.name == StageName.TRAIN)
            connection.execute(update(Stage).where(train).values(**done, error=None))
        row = self.checkpoint(iteration.run_id, iteration.t + 1)
        assert row is not None
        return row


_ITERATION = (
    Iteration.id,
    Iteration.run_id,
    Iteration.t,
    Iteration.checkpoint_id,
    Iteration.setting_hash,
    Iteration.data_iteration_id,
    Iteration.status,
)


def _iteration(row: AnyRow) -> IterationRow:
    return IterationRow(**{**row._asdict(), "status": Status(row.status)})
