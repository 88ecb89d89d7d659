"""Runs, their iterations and stages, their checkpoints and settings: the skeleton of the loop."""

from sqlalchemy import Connection, select, update

from selfreward.config import Settings
from selfreward.store.database import Database
from selfreward.store.rows import AnyRow, insert_new, insert_one, now
from selfreward.store.schema import Checkpoint, EngineSession, Iteration, Run, Setting, Stage
from selfreward.types import (
    CheckpointKind,
    CheckpointRow,
    IterationRow,
    RunRow,
    StageName,
    StageRow,
    Status,
)


class Runs:
    """Queries about runs, iterations, stages, engine sessions and checkpoints."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def add_checkpoint(
        self,
        run_id: int,
        version: int,
        kind: CheckpointKind,
        path: str,
        digest: str,
        parent_id: int | None = None,
        name: str | None = None,
    ) -> CheckpointRow:
        """Record M_version, or a checkpoint beside it called `name`; one that is recorded stays as it is."""
        name = name or f"M_{version}"
        with self._database.write() as connection:
            _add_checkpoint(connection, run_id, version, name, kind, path, digest, parent_id)
        row = self.checkpoint_named(run_id, name)
        assert row is not None
        return row

    def checkpoint(self, run_id: int, version: int) -> CheckpointRow | None:
        """M_version of a run."""
        return self.checkpoint_named(run_id, f"M_{version}")

    def checkpoint_named(self, run_id: int, name: str) -> CheckpointRow | None:
        """A checkpoint of a run by its name."""
        query = select(*_CHECKPOINT).where(Checkpoint.run_id == run_id, Checkpoint.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _checkpoint(row)

    def checkpoint_by_id(self, checkpoint_id: int) -> CheckpointRow:
        """A checkpoint by its id."""
        with self._database.read() as connection:
            return _checkpoint(
                connection.execute(select(*_CHECKPOINT).where(Checkpoint.id == checkpoint_id)).one()
            )

    def checkpoints(self, run_id: int) -> list[CheckpointRow]:
        """All checkpoints of a run, oldest first."""
        mine = select(*_CHECKPOINT).where(Checkpoint.run_id == run_id)
        query = mine.order_by(Checkpoint.version, Checkpoint.id)
        with self._database.read() as connection:
            return [_checkpoint(row) for row in connection.execute(query)]

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
        self, iteration: IterationRow, kind: CheckpointKind, path: str, digest: str
    ) -> CheckpointRow:
        """Record M_{t+1} and close iteration t and its train stage, in one transaction."""
        with self._database.write() as connection:
            version, parent = iteration.t + 1, iteration.checkpoint_id
            _add_checkpoint(connection, iteration.run_id, version, f"M_{version}", kind, path, digest, parent)
            done = {"status": Status.DONE, "finished_at": now()}
            connection.execute(update(Iteration).where(Iteration.id == iteration.id).values(**done))
            train = (Stage.iteration_id == iteration.id) & (Stage.name == StageName.TRAIN)
            connection.execute(update(Stage).where(train).values(**done, error=None))
        row = self.checkpoint(iteration.run_id, iteration.t + 1)
        assert row is not None
        return row

    def stage(self, iteration_id: int, name: StageName) -> StageRow | None:
        """One stage of an iteration; None when it has not begun."""
        query = select(*_STAGE).where(Stage.iteration_id == iteration_id, Stage.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _stage(row)

    def stages(self, iteration_id: int) -> list[StageRow]:
        """The stages of an iteration in the order in which they began."""
        query = select(*_STAGE).where(Stage.iteration_id == iteration_id).order_by(Stage.id)
        with self._database.read() as connection:
            return [_stage(row) for row in connection.execute(query)]

    def begin_stage(self, iteration_id: int, name: StageName) -> StageRow:
        """The stage, made if it is not there; counted as one more attempt unless it is done."""
        mine = (Stage.iteration_id == iteration_id) & (Stage.name == name)
        with self._database.write() as connection:
            new = {
                "iteration_id": iteration_id,
                "name": name,
                "status": Status.PENDING,
                "attempts": 0,
                "cursor": 0,
                "detail": "",
                "started_at": now(),
            }
            insert_new(connection, Stage, [new])
            connection.execute(
                update(Stage)
                .where(mine, Stage.status != Status.DONE)
                .values(status=Status.RUNNING, attempts=Stage.attempts + 1)
            )
            return _stage(connection.execute(select(*_STAGE).where(mine)).one())

    def reopen_stage(self, iteration_id: int, name: StageName) -> None:
        """A stage that is done is looked through once more: settings or seeds may have changed."""
        done = (Stage.iteration_id == iteration_id) & (Stage.name == name) & (Stage.status == Status.DONE)
        with self._database.write() as connection:
            connection.execute(update(Stage).where(done).values(status=Status.PENDING, cursor=0))

    def finish_stage(self, stage_id: int, detail: str) -> None:
        """Mark a stage as done and say how it ended."""
        done = {"status": Status.DONE, "detail": detail, "error": None, "finished_at": now()}
        with self._database.write() as connection:
            connection.execute(update(Stage).where(Stage.id == stage_id).values(**done))

    def describe_stage(self, stage_id: int, detail: str) -> None:
        """Say how a stage ended, before it is closed together with something else."""
        with self._database.write() as connection:
            connection.execute(update(Stage).where(Stage.id == stage_id).values(detail=detail))

    def fail_stage(self, stage_id: int, status: Status, error: str) -> None:
        """Mark a stage as halted or failed and say why."""
        with self._database.write() as connection:
            connection.execute(update(Stage).where(Stage.id == stage_id).values(status=status, error=error))

    def begin_session(self, iteration_id: int, checkpoint_id: int, engine: str, seed: int) -> int:
        """Record that a server is being started; returns the session's id."""
        with self._database.write() as connection:
            return insert_one(
                connection,
                EngineSession,
                iteration_id=iteration_id,
                checkpoint_id=checkpoint_id,
                engine=engine,
                seed=seed,
                started_at=now(),
            )

    def session_ready(self, session_id: int) -> None:
        """The server answers."""
        with self._database.write() as connection:
            connection.execute(
                update(EngineSession).where(EngineSession.id == session_id).values(ready_at=now())
            )

    def end_session(self, session_id: int, prompt_tokens: int | None, generated_tokens: int | None) -> None:
        """The server is gone; what it read and wrote."""
        values = {
            "finished_at": now(),
            "prompt_tokens": prompt_tokens,
            "generated_tokens": generated_tokens,
        }
        with self._database.write() as connection:
            connection.execute(update(EngineSession).where(EngineSession.id == session_id).values(**values))


_CHECKPOINT = (
    Checkpoint.id,
    Checkpoint.run_id,
    Checkpoint.version,
    Checkpoint.name,
    Checkpoint.kind,
    Checkpoint.path,
    Checkpoint.digest,
    Checkpoint.parent_id,
)
_ITERATION = (
    Iteration.id,
    Iteration.run_id,
    Iteration.t,
    Iteration.checkpoint_id,
    Iteration.setting_hash,
    Iteration.data_iteration_id,
    Iteration.status,
)
_STAGE = (
    Stage.id,
    Stage.iteration_id,
    Stage.name,
    Stage.status,
    Stage.attempts,
    Stage.cursor,
    Stage.detail,
    Stage.error,
)


def _add_checkpoint(
    connection: Connection,
    run_id: int,
    version: int,
    name: str,
    kind: CheckpointKind,
    path: str,
    digest: str,
    parent_id: int | None,
) -> None:
    new = {
        "run_id": run_id,
        "version": version,
        "name": name,
        "kind": kind,
        "path": path,
        "digest": digest,
        "parent_id": parent_id,
        "created_at": now(),
    }
    insert_new(connection, Checkpoint, [new])


def _checkpoint(row: AnyRow) -> CheckpointRow:
    return CheckpointRow(**{**row._asdict(), "kind": CheckpointKind(row.kind)})


def _iteration(row: AnyRow) -> IterationRow:
    return IterationRow(**{**row._asdict(), "status": Status(row.status)})


def _stage(row: AnyRow) -> StageRow:
    return StageRow(**{**row._asdict(), "name": StageName(row.name), "status": Status(row.status)})
