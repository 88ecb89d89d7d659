"""Stages of an iteration and the engine sessions that serve them."""

from collections.abc import Sequence

from sqlalchemy import select, update

from selfreward.store.database import Database
from selfreward.store.rows import AnyRow, insert_new, insert_one, now
from selfreward.store.schema import EngineSession, Iteration, Stage
from selfreward.types import StageName, StageRow, Status
from selfreward.versions import versions


class Stages:
    """Queries about stages and engine sessions: a part of `Runs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
                .values(status=Status.RUNNING, attempts=Stage.attempts + 1, versions=versions())
            )
            return _stage(connection.execute(select(*_STAGE).where(mine)).one())

    def last_versions(self, run_id: int) -> dict[str, str] | None:
        """Versions under which a stage of the run was last started; None when none was.

        A stage that is not done is started anew by every daemon: it tells the last start before one that is.
        """
        query = (
            select(Stage.versions)
            .join(Iteration, Iteration.id == Stage.iteration_id)
            .where(Iteration.run_id == run_id, Stage.versions.is_not(None))
            .order_by(Iteration.t.desc(), Stage.status == Status.DONE, Stage.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def reopen_stage(self, iteration_id: int, name: StageName) -> None:
        """A stage that is done is looked through once more: settings or seeds may have changed."""
        done = (Stage.iteration_id == iteration_id) & (Stage.name == name) & (Stage.status == Status.DONE)
        with self._database.write() as connection:
            connection.execute(update(Stage).where(done).values(status=Status.PENDING, cursor=0))

    def start_over(self, iteration_id: int, names: Sequence[StageName]) -> None:
        """Stages look through all of their items once more, done or not: what they make has changed."""
        mine = (Stage.iteration_id == iteration_id) & Stage.name.in_(names)
        with self._database.write() as connection:
            connection.execute(update(Stage).where(mine).values(cursor=0))
            connection.execute(
                update(Stage).where(mine, Stage.status == Status.DONE).values(status=Status.PENDING)
            )

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

    def note_session(self, session_id: int, prompt_tokens: int, generated_tokens: int) -> None:
        """What the server has read and written so far, while it lives."""
        alive = (EngineSession.id == session_id) & EngineSession.finished_at.is_(None)
        values = {"prompt_tokens": prompt_tokens, "generated_tokens": generated_tokens}
        with self._database.write() as connection:
            connection.execute(update(EngineSession).where(alive).values(**values))

    def end_session(self, session_id: int, prompt_tokens: int | None, generated_tokens: int | None) -> None:
        """The server is gone; what it read and wrote, or as far as that was noted where it cannot tell."""
        figures = {"prompt_tokens": prompt_tokens, "generated_tokens": generated_tokens}
        told = {name: count for name, count in figures.items() if count is not None}
        with self._database.write() as connection:
            mine = update(EngineSession).where(EngineSession.id == session_id)
            connection.execute(mine.values(finished_at=now(), **told))


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


def _stage(row: AnyRow) -> StageRow:
    return StageRow(**{**row._asdict(), "name": StageName(row.name), "status": Status(row.status)})
