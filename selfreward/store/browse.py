"""Reading what a run has made, from a prompt to its judgements and on: for the terminal and the pages.

Nothing here writes. What is looked at is found by its id; an id that is not there is a BadInput that
names those that are.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from selfreward.errors import BadInput
from selfreward.store.browse_answers import AnswersSideBySide
from selfreward.store.browse_candidates import candidates_of
from selfreward.store.browse_checkpoints import BrowseCheckpoints
from selfreward.store.browse_pairs import (
    JUDGED_BY,
    JUDGING,
    TRAINED,
    TRAINED_BY_ITERATION,
    decisions_of,
    pairs_of,
)
from selfreward.store.browse_runs import BrowseRuns
from selfreward.store.browsed import CandidateDetail, PairDetail, PromptDetail, PromptRef
from selfreward.store.lineage import lineage
from selfreward.store.rows import AnyRow
from selfreward.store.schema import (
    Candidate,
    Checkpoint,
    Iteration,
    Judge,
    Judgement,
    PreferencePair,
    Prompt,
    PromptDemonstration,
    Run,
)
from selfreward.store.scope import Used, history, require, run_name
from selfreward.store.search import Search
from selfreward.types import PromptSource, PromptStatus, RejectReason

WRITER = Checkpoint.__table__.alias("writer")


class Browse(Search, BrowseRuns, BrowseCheckpoints, AnswersSideBySide):
    """Queries for people who look: lists in pages, and one thing with all that belongs to it."""

    def prompt(self, run_id: int, prompt_id: int, t: int | None = None) -> PromptDetail:
        """A prompt as a run uses it, or one of its seeds, with candidates, judgements and pair.

        Raises BadInput when there is no such prompt, or another run's, or (with `t`) another iteration's.
        """
        with self._database.read() as connection:
            found = connection.execute(select(Prompt).where(Prompt.id == prompt_id)).one_or_none()
            row = require(connection, found, "prompt", prompt_id, Prompt.id)
            used = _user(connection, row, run_id, t)
            return _prompt(connection, row, run_name(connection, run_id), used)

    def candidate(self, candidate_id: int) -> CandidateDetail:
        """One answer with all judgements; the mean is that of the iteration which sampled it."""
        with self._database.read() as connection:
            found = connection.execute(
                select(Candidate.id, Iteration.judge_id)
                .outerjoin(Iteration, Iteration.id == Candidate.iteration_id)
                .where(Candidate.id == candidate_id)
            ).one_or_none()
            row = require(connection, found, "candidate", candidate_id, Candidate.id)
            return candidates_of(connection, Candidate.id == candidate_id, row.judge_id)[0]

    def judged_candidate(self, judgement_id: int) -> CandidateDetail:
        """The answer that a judgement is about, with all of them."""
        with self._database.read() as connection:
            query = select(Judgement.candidate_id).where(Judgement.id == judgement_id)
            found = connection.execute(query).one_or_none()
            row = require(connection, found, "judgement", judgement_id, Judgement.id)
        return self.candidate(row.candidate_id)

    def pair(self, pair_id: int) -> PairDetail:
        """A pair of any run with its prompt and all candidates, scored by the judge that made it."""
        with self._database.read() as connection:
            found = pairs_of(connection, PreferencePair.id == pair_id)
            if not found:
                require(connection, None, "pair", pair_id, PreferencePair.id)
            [(pair,)] = found.values()
            candidates = candidates_of(connection, Candidate.prompt_id == pair.prompt_id, pair.judge_id)
            by_id = {candidate.id: candidate for candidate in candidates}
            return PairDetail(
                pair=pair,
                prompt=_refs(connection, [pair.prompt_id])[pair.prompt_id],
                chosen=by_id.pop(pair.chosen_id),
                rejected=by_id.pop(pair.rejected_id),
                others=tuple(by_id.values()),
            )


def _user(connection: Connection, row: AnyRow, run_id: int, t: int | None) -> Used | None:
    """The run's iteration that uses a prompt; None for a seed. Raises BadInput when it is not the run's."""
    if row.source == PromptSource.IMPORTED:
        runs = [link.run_id for link in lineage(connection, run_id)]
        if row.run_id in runs:
            return _taken_by(connection, row.id, run_id, t)
    elif row.source == PromptSource.SEED:
        shared = select(func.coalesce(Run.seeds_run_id, Run.id)).where(Run.id == run_id)
        if row.run_id == connection.execute(shared).scalar_one():
            return None
    else:
        used = [used for used in history(connection, run_id) if used.data_id == row.iteration_id]
        if used and t in (None, used[0].t):
            return used[0]
        if used:
            raise BadInput(f"prompt {row.id} is not of iteration {t}", f"It is of iteration {used[0].t}.")
    theirs, mine = run_name(connection, row.run_id), run_name(connection, run_id)
    raise BadInput(
        f"prompt {row.id} belongs to run {theirs!r}, not to {mine!r}", f"Look there: --run {theirs}"
    )


def _taken_by(connection: Connection, prompt_id: int, run_id: int, t: int | None) -> Used | None:
    """The run's iteration that took a pair of an imported prompt: t, or the last one; None if none did."""
    query = select(PreferencePair.iteration_id).where(PreferencePair.prompt_id == prompt_id)
    taken = set(connection.scalars(query))
    found = [used for used in history(connection, run_id) if used.id in taken and t in (None, used.t)]
    return found[-1] if found else None


def _prompt(connection: Connection, row: AnyRow, run: str, used: Used | None) -> PromptDetail:
    pairs = pairs_of(connection, PreferencePair.prompt_id == row.id)
    decisions = decisions_of(connection, row.id, pairs)
    names = {} if row.source == PromptSource.IMPORTED else _names(connection, used)
    shown = connection.scalars(
        select(PromptDemonstration.demonstration_id)
        .where(PromptDemonstration.prompt_id == row.id)
        .order_by(PromptDemonstration.position)
    ).all()
    others = _refs(connection, [*shown, *([row.nearest_prompt_id] if row.nearest_prompt_id else [])])
    here = None if used is None else used.id
    mine = () if here is None else pairs.get(here, ())
    judge = None if used is None else used.judge_id
    return PromptDetail(
        id=row.id,
        run=run,
        t=None if used is None else used.t,
        text=row.text,
        source=PromptSource(row.source),
        origin=row.origin,
        reference=row.reference,
        status=PromptStatus(row.status),
        reject_reason=RejectReason(row.reject_reason) if row.reject_reason else None,
        nearest=others.get(row.nearest_prompt_id),
        nearest_rouge_l=row.nearest_rouge_l,
        created_at=row.created_at,
        demonstrations=tuple(others[key] for key in shown),
        written_by=names.get("written_by"),
        judged_by=names.get("judged_by"),
        trained=names.get("trained"),
        candidates=tuple(candidates_of(connection, Candidate.prompt_id == row.id, judge)),
        decision=decisions.get(here),
        pair=mine[0] if mine else None,
        pairs=mine,
        used_by=tuple(decisions.values()),
    )


def _names(connection: Connection, used: Used | None) -> dict[str, str]:
    """Which checkpoint wrote, judged and was trained in an iteration, as far as there is one."""
    if used is None:
        return {}
    query = (
        select(
            WRITER.c.name.label("written_by"),
            JUDGED_BY.label("judged_by"),
            TRAINED.c.name.label("trained"),
        )
        .select_from(Iteration)
        .join(WRITER, WRITER.c.id == Iteration.checkpoint_id)
        .outerjoin(Judge, Judge.id == Iteration.judge_id)
        .outerjoin(JUDGING, JUDGING.c.id == Judge.checkpoint_id)
        .outerjoin(TRAINED, TRAINED_BY_ITERATION)
        .where(Iteration.id == used.id)
    )
    row = connection.execute(query).one()
    return {name: value for name, value in row._asdict().items() if value is not None}


def _refs(connection: Connection, ids: Sequence[int]) -> dict[int, PromptRef]:
    """Prompts by id."""
    query = select(Prompt.id, Prompt.text).where(Prompt.id.in_(ids))
    return {row.id: PromptRef(id=row.id, text=row.text) for row in connection.execute(query)}
