"""Makes forks: a run that goes on from M_K of another, with what it reuses, in one transaction."""

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, literal, select, update

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.store.database import Database
from selfreward.store.lineage import counted_iterations, lineage, nodes
from selfreward.store.rows import AnyRow, insert_new, insert_one, now
from selfreward.store.schema import (
    Checkpoint,
    Event,
    Iteration,
    Judge,
    Prompt,
    PromptDemonstration,
    Run,
    Setting,
    Stage,
)
from selfreward.types import CheckpointRow, RunRow, StageName, Status

OWN = frozenset({"id", "run_id", "iteration_id"})
"""Columns of a copy that are its own."""


class Reuse(StrEnum):
    """How much of the parent's iteration K a fork takes over."""

    PROMPTS = "prompts"
    """Its prompts, as copies: other candidates are sampled for them."""
    CANDIDATES = "candidates"
    """Its prompts and candidates themselves: they are judged by the fork's judge."""
    JUDGEMENTS = "judgements"
    """Its judgements too: pairs are drawn and trained on anew."""


STAGES = {
    Reuse.PROMPTS: (StageName.SELF_INSTRUCT,),
    Reuse.CANDIDATES: (StageName.SELF_INSTRUCT, StageName.SAMPLE),
    Reuse.JUDGEMENTS: (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE),
}
"""What must be done in the parent, and is done in the fork from the start."""


class Forks:
    """Queries about forks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def judge_template(self, iteration_id: int) -> str | None:
        """sha256 of the template that an iteration's candidates were judged with; None while none were."""
        query = (
            select(Judge.template_digest)
            .join(Iteration, Iteration.judge_id == Judge.id)
            .where(Iteration.id == iteration_id)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def require(self, parent: RunRow, checkpoint: CheckpointRow, reuse: Reuse | None) -> None:
        """Raise BadInput, as `make` does, unless M_K and what is to be reused of iteration K are there."""
        with self._database.read() as connection:
            _require_files(connection, parent, checkpoint)
            if reuse is not None:
                _source(connection, parent, checkpoint.version, reuse)

    def make(
        self,
        name: str,
        parent: RunRow,
        checkpoint: CheckpointRow,
        settings: Settings,
        *,
        shares_seeds: bool,
        reuse: Reuse | None = None,
    ) -> int:
        """The id of a new run that begins with iteration K on `checkpoint`, M_K of its parent.

        With `shares_seeds` it uses the parent's seeds. Raises BadInput when the name is taken, when M_K's
        files are gone, or when what is to be reused is not done. Rows of other runs stay as they are.
        """
        t, moment = checkpoint.version, now()
        with self._database.write() as connection:
            if connection.execute(select(Run.id).where(Run.name == name)).first() is not None:
                raise BadInput(f"there is a run {name!r} already", "Give the fork another name.")
            _require_files(connection, parent, checkpoint)
            source = None if reuse is None else _source(connection, parent, t, reuse)
            seeds = nodes(connection)[parent.id].seeds_run_id or parent.id
            run = insert_one(
                connection,
                Run,
                name=name,
                parent_run_id=parent.id,
                parent_iteration=t,
                seeds_run_id=seeds if shares_seeds else None,
                created_at=moment,
            )
            body = settings.model_dump(mode="json")
            insert_new(connection, Setting, [{"hash": settings.digest(), "body": body, "created_at": moment}])
            iteration = insert_one(
                connection,
                Iteration,
                run_id=run,
                t=t,
                checkpoint_id=checkpoint.id,
                setting_hash=settings.digest(),
                status=Status.PENDING,
                started_at=moment,
            )
            _take_over(connection, run, iteration, source, reuse)
            _note(connection, run, iteration, parent, t, reuse)
        return run


def _require_files(connection: Connection, parent: RunRow, checkpoint: CheckpointRow) -> None:
    """Raise BadInput when retention has removed them. From here on it waits, and then finds the fork."""
    mine = select(Checkpoint.removed_at).where(Checkpoint.id == checkpoint.id)
    if connection.execute(mine.with_for_update(read=True)).scalar_one() is not None:
        raise BadInput(
            f"the files of {checkpoint.name} of run {parent.name!r} were removed",
            "Retention took them (daemon.keep_checkpoints). Fork from another iteration.",
        )


def _source(connection: Connection, parent: RunRow, t: int, reuse: Reuse) -> AnyRow:
    """Iteration t of the parent's history. Raises BadInput unless what is to be reused of it is done."""
    mine = counted_iterations(lineage(connection, parent.id)) & (Iteration.t == t)
    columns = (Iteration.id, Iteration.data_iteration_id, Iteration.judge_id)
    row = connection.execute(select(*columns).where(mine)).one_or_none()
    done: set[str] = set()
    if row is not None:
        finished = (Stage.iteration_id == row.id) & (Stage.status == Status.DONE)
        done.update(connection.scalars(select(Stage.name).where(finished)))
    lacking = [stage for stage in STAGES[reuse] if stage not in done]
    if row is None or lacking:
        raise BadInput(
            f"the {reuse} of iteration {t} of run {parent.name!r} cannot be reused: "
            f"not done there: {', '.join(lacking)}",
            "Let the run finish that, reuse less, or leave out --reuse: then the iteration begins anew.",
        )
    return row


def _take_over(
    connection: Connection, run: int, iteration: int, source: AnyRow | None, reuse: Reuse | None
) -> None:
    """Point the fork's first iteration to what it uses, or copy it, and mark the stages as done."""
    mine = update(Iteration).where(Iteration.id == iteration)
    if source is None or reuse is None:
        connection.execute(mine.values(data_iteration_id=iteration))
        return
    if reuse is Reuse.PROMPTS:
        connection.execute(mine.values(data_iteration_id=iteration))
        _copy_prompts(connection, run, iteration, source.data_iteration_id)
    else:
        judge = source.judge_id if reuse is Reuse.JUDGEMENTS else None
        connection.execute(mine.values(data_iteration_id=source.data_iteration_id, judge_id=judge))
    _copy_stages(connection, iteration, source.id, STAGES[reuse])


def _copy_prompts(connection: Connection, run: int, iteration: int, source: int) -> None:
    """Copies of an iteration's prompts: candidates hang on a prompt by a unique key, so these need their own.

    What they were written from, and what they resembled, stays what it was.
    """
    columns = [column for column in Prompt.__table__.columns if column.name not in OWN]
    written = select(literal(run), literal(iteration), *columns).where(Prompt.iteration_id == source)
    names = ["run_id", "iteration_id", *(column.name for column in columns)]
    connection.execute(insert(Prompt).from_select(names, written.order_by(Prompt.id)))
    copy = Prompt.__table__.alias("copy")
    shown = (
        select(copy.c.id, PromptDemonstration.position, PromptDemonstration.demonstration_id)
        .join(Prompt, Prompt.id == PromptDemonstration.prompt_id)
        .join(copy, (copy.c.draw == Prompt.draw) & (copy.c.draw_index == Prompt.draw_index))
        .where(Prompt.iteration_id == source, copy.c.iteration_id == iteration)
    )
    to = ["prompt_id", "position", "demonstration_id"]
    connection.execute(insert(PromptDemonstration).from_select(to, shown))


def _copy_stages(connection: Connection, iteration: int, source: int, names: tuple[StageName, ...]) -> None:
    """The stages as they ended there, never started here."""
    values: dict[str, Any] = {
        "iteration_id": literal(iteration),
        "attempts": literal(0),
        "detail": literal("reused: ") + Stage.detail,
    }
    columns = [column.name for column in Stage.__table__.columns if column.name != "id"]
    rows = select(*(values.get(name, Stage.__table__.c[name]) for name in columns)).where(
        Stage.iteration_id == source, Stage.name.in_(names)
    )
    connection.execute(insert(Stage).from_select(columns, rows.order_by(Stage.id)))


def _note(
    connection: Connection, run: int, iteration: int, parent: RunRow, t: int, reuse: Reuse | None
) -> None:
    told = f", with its {reuse}" if reuse else ""
    insert_one(
        connection,
        Event,
        run_id=run,
        iteration_id=iteration,
        at=now(),
        kind="forked",
        message=f"forked from iteration {t} of {parent.name}{told}",
        data={"parent": parent.name, "iteration": t, "reuse": reuse},
    )
