"""Reading what a run has made, from a prompt to its judgements and on: for the terminal and the pages.

Nothing here writes. What is looked at is found by its id; an id that is not there is a BadInput that
names those that are.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, cast, func, literal, select

from selfreward.errors import BadInput
from selfreward.store.browse_answers import AnswersSideBySide
from selfreward.store.browse_checkpoints import BrowseCheckpoints
from selfreward.store.browse_runs import BrowseRuns
from selfreward.store.browsed import (
    CandidateDetail,
    DecisionRow,
    JudgementDetail,
    PairDetail,
    PairRef,
    PairRow,
    PromptDetail,
    PromptRef,
)
from selfreward.store.rows import AnyRow
from selfreward.store.schema import (
    Candidate,
    Checkpoint,
    Iteration,
    Judge,
    Judgement,
    PairDecision,
    PreferencePair,
    Prompt,
    PromptDemonstration,
    Run,
)
from selfreward.store.scope import Used, history, require, run_name
from selfreward.store.search import Search
from selfreward.types import (
    CandidateStatus,
    JudgementStatus,
    PairOutcome,
    PromptSource,
    PromptStatus,
    RejectReason,
)

INDEPENDENT = "independent"
"""What a judge is called that is no checkpoint of this database."""
WRITER, JUDGING, TRAINED = (Checkpoint.__table__.alias(name) for name in ("writer", "judging", "trained"))
TRAINED_BY_ITERATION = (TRAINED.c.run_id == Iteration.run_id) & (
    TRAINED.c.name == literal("M_") + cast(Iteration.t + 1, Text)
)


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
                .join(Iteration, Iteration.id == Candidate.iteration_id)
                .where(Candidate.id == candidate_id)
            ).one_or_none()
            row = require(connection, found, "candidate", candidate_id, Candidate.id)
            return _candidates(connection, Candidate.id == candidate_id, row.judge_id)[0]

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
            found = _pairs(connection, PreferencePair.id == pair_id)
            if not found:
                require(connection, None, "pair", pair_id, PreferencePair.id)
            pair = found[0]
            candidates = _candidates(connection, Candidate.prompt_id == pair.prompt_id, pair.judge_id)
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
    if row.source == PromptSource.SEED:
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


def _prompt(connection: Connection, row: AnyRow, run: str, used: Used | None) -> PromptDetail:
    decisions = _decisions(connection, row.id)
    pairs = _pairs(connection, PreferencePair.prompt_id == row.id)
    names = _names(connection, used)
    shown = connection.scalars(
        select(PromptDemonstration.demonstration_id)
        .where(PromptDemonstration.prompt_id == row.id)
        .order_by(PromptDemonstration.position)
    ).all()
    others = _refs(connection, [*shown, *([row.nearest_prompt_id] if row.nearest_prompt_id else [])])
    here = None if used is None else used.id
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
        candidates=tuple(_candidates(connection, Candidate.prompt_id == row.id, judge)),
        decision=decisions.get(here),
        pair=pairs_by_iteration(connection, pairs).get(here),
        used_by=tuple(decisions.values()),
    )


def pairs_by_iteration(connection: Connection, pairs: Sequence[PairRow]) -> dict[int | None, PairRow]:
    """Pairs by the id of the iteration that trains on them."""
    query = select(PreferencePair.id, PreferencePair.iteration_id)
    mine = connection.execute(query.where(PreferencePair.id.in_([pair.id for pair in pairs])))
    iterations = {key: iteration for key, iteration in mine}
    return {iterations[pair.id]: pair for pair in pairs}


def _names(connection: Connection, used: Used | None) -> dict[str, str]:
    """Which checkpoint wrote, judged and was trained in an iteration, as far as there is one."""
    if used is None:
        return {}
    query = (
        select(
            WRITER.c.name.label("written_by"),
            func.coalesce(JUDGING.c.name, INDEPENDENT).label("judged_by"),
            TRAINED.c.name.label("trained"),
            Iteration.judge_id,
        )
        .select_from(Iteration)
        .join(WRITER, WRITER.c.id == Iteration.checkpoint_id)
        .outerjoin(Judge, Judge.id == Iteration.judge_id)
        .outerjoin(JUDGING, JUDGING.c.id == Judge.checkpoint_id)
        .outerjoin(TRAINED, TRAINED_BY_ITERATION)
        .where(Iteration.id == used.id)
    )
    row = connection.execute(query).one()
    found = {"written_by": row.written_by, "trained": row.trained}
    found["judged_by"] = row.judged_by if row.judge_id else None
    return {name: value for name, value in found.items() if value is not None}


def _refs(connection: Connection, ids: Sequence[int]) -> dict[int, PromptRef]:
    """Prompts by id."""
    query = select(Prompt.id, Prompt.text).where(Prompt.id.in_(ids))
    return {row.id: PromptRef(id=row.id, text=row.text) for row in connection.execute(query)}


def _decisions(connection: Connection, prompt_id: int) -> dict[int | None, DecisionRow]:
    """What each iteration made of a prompt, by the iteration's id, oldest first."""
    query = (
        select(
            PairDecision.iteration_id,
            Run.name.label("run"),
            Iteration.t,
            PairDecision.outcome,
            PairDecision.best_score,
            PairDecision.worst_score,
            PreferencePair.id.label("pair_id"),
        )
        .join(Iteration, Iteration.id == PairDecision.iteration_id)
        .join(Run, Run.id == Iteration.run_id)
        .outerjoin(
            PreferencePair,
            (PreferencePair.iteration_id == PairDecision.iteration_id)
            & (PreferencePair.prompt_id == PairDecision.prompt_id),
        )
        .where(PairDecision.prompt_id == prompt_id)
        .order_by(PairDecision.iteration_id)
    )
    found: dict[int | None, DecisionRow] = {}
    for row in connection.execute(query):
        values = row._asdict()
        key = values.pop("iteration_id")
        found[key] = DecisionRow(**values | {"outcome": PairOutcome(row.outcome)})
    return found


def _pairs(connection: Connection, of_these: ColumnElement[bool]) -> list[PairRow]:
    """Pairs with the names that belong to them, oldest first."""
    query = (
        select(
            PreferencePair.id,
            Run.name.label("run"),
            Iteration.t,
            PreferencePair.prompt_id,
            PreferencePair.judge_id,
            PreferencePair.chosen_id,
            PreferencePair.rejected_id,
            PreferencePair.chosen_score,
            PreferencePair.rejected_score,
            PreferencePair.margin,
            PreferencePair.soft_label,
            PreferencePair.excluded,
            func.coalesce(JUDGING.c.name, INDEPENDENT).label("judged_by"),
            TRAINED.c.name.label("trained"),
        )
        .join(Iteration, Iteration.id == PreferencePair.iteration_id)
        .join(Run, Run.id == Iteration.run_id)
        .join(Judge, Judge.id == PreferencePair.judge_id)
        .outerjoin(JUDGING, JUDGING.c.id == Judge.checkpoint_id)
        .outerjoin(TRAINED, TRAINED_BY_ITERATION & PreferencePair.excluded.is_(None))
        .where(of_these)
        .order_by(PreferencePair.id)
    )
    return [PairRow(**row._asdict()) for row in connection.execute(query)]


def _candidates(
    connection: Connection, of_these: ColumnElement[bool], judge_id: int | None
) -> list[CandidateDetail]:
    """Candidates by index, each with everything that was said about it."""
    query = (
        select(
            Candidate.id,
            Candidate.prompt_id,
            Candidate.candidate_index.label("index"),
            Run.name.label("run"),
            Iteration.t,
            Candidate.text,
            Candidate.status,
            Candidate.finish_reason,
            Candidate.token_count,
            Candidate.mean_logprob,
            WRITER.c.name.label("written_by"),
        )
        .join(Iteration, Iteration.id == Candidate.iteration_id)
        .join(Run, Run.id == Iteration.run_id)
        .join(WRITER, WRITER.c.id == Iteration.checkpoint_id)
        .where(of_these)
        .order_by(Candidate.candidate_index)
    )
    rows = connection.execute(query).all()
    ids = [row.id for row in rows]
    judgements, pairs = _judgements(connection, ids), _pair_refs(connection, ids)
    return [_candidate(row._asdict(), judgements[row.id], pairs[row.id], judge_id) for row in rows]


def _candidate(
    found: dict[str, Any],
    judgements: Sequence[JudgementDetail],
    pairs: Sequence[PairRef],
    judge_id: int | None,
) -> CandidateDetail:
    scores = [row.score for row in judgements if row.judge_id == judge_id and row.score is not None]
    return CandidateDetail(
        **found | {"status": CandidateStatus(found["status"])},
        judgements=tuple(judgements),
        judge_id=judge_id,
        mean_score=fmean(scores) if scores else None,
        pairs=tuple(pairs),
    )


def _judgements(connection: Connection, candidate_ids: Sequence[int]) -> Mapping[int, list[JudgementDetail]]:
    """Judgements by candidate, by judge and sample."""
    query = (
        select(
            Judgement.candidate_id,
            Judgement.id,
            Judgement.judge_id,
            func.coalesce(JUDGING.c.name, INDEPENDENT).label("judged_by"),
            Judgement.sample,
            Judgement.status,
            Judgement.score,
            Judgement.raw_text,
            Judgement.probabilities,
            Judgement.lost_mass,
            Judgement.token_count,
            Judgement.finish_reason,
        )
        .join(Judge, Judge.id == Judgement.judge_id)
        .outerjoin(JUDGING, JUDGING.c.id == Judge.checkpoint_id)
        .where(Judgement.candidate_id.in_(candidate_ids))
        .order_by(Judgement.candidate_id, Judgement.judge_id, Judgement.sample)
    )
    found: dict[int, list[JudgementDetail]] = defaultdict(list)
    for row in connection.execute(query):
        values = row._asdict()
        candidate = values.pop("candidate_id")
        chances = None if row.probabilities is None else tuple(row.probabilities)
        values |= {"status": JudgementStatus(row.status), "probabilities": chances}
        found[candidate].append(JudgementDetail(**values))
    return found


def _pair_refs(connection: Connection, candidate_ids: Sequence[int]) -> Mapping[int, list[PairRef]]:
    """The pairs that candidates are part of: found by their prompt, which has an index."""
    prompts = select(Candidate.prompt_id).where(Candidate.id.in_(candidate_ids))
    query = (
        select(
            PreferencePair.id,
            Run.name.label("run"),
            Iteration.t.label("number"),  # rows have a `t` of their own
            PreferencePair.chosen_id,
            PreferencePair.rejected_id,
        )
        .join(Iteration, Iteration.id == PreferencePair.iteration_id)
        .join(Run, Run.id == Iteration.run_id)
        .where(PreferencePair.prompt_id.in_(prompts))
        .order_by(PreferencePair.id)
    )
    found: dict[int, list[PairRef]] = defaultdict(list)
    for row in connection.execute(query):
        for key, role in ((row.chosen_id, "chosen"), (row.rejected_id, "rejected")):
            found[key].append(PairRef(id=row.id, run=row.run, t=row.number, role=role))
    return found
