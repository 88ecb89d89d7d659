"""How judges compared candidates two by two, and which prompts' candidates are still to be compared."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, case, exists, func, select
from sqlalchemy.orm import aliased

from selfreward.crash import crash_point
from selfreward.store.candidates import JUDGEABLE, add_judgements, move_cursor
from selfreward.store.database import Database
from selfreward.store.rows import AnyRow, AnySelect, insert_new, now
from selfreward.store.schema import Candidate, CandidateComparison, Judgement, Prompt
from selfreward.types import Contest, JudgementStatus, NewCandidateComparison, NewJudgement, Shown


class Comparisons:
    """Queries about comparisons of candidates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unsettled(
        self, iteration_id: int, judge_id: int, least: int, after: int, limit: int, anchors: bool = False
    ) -> list[Contest]:
        """Prompts, complete with `least` candidates, of which some lack a judgement by this judge.

        In the order of their last candidates, with an id above `after`. Prompts with fewer than two
        candidates that can be compared are passed over. `anchors`: earlier models' answers are among them.
        """
        with self._database.read() as connection:
            found = connection.execute(unsettled(iteration_id, judge_id, least, after, limit, anchors)).all()
            return _contests(connection, found, judge_id, anchors)

    def add(
        self,
        iteration_id: int,
        judge_id: int,
        session_id: int | None,
        comparisons: Sequence[NewCandidateComparison],
        judgements: Sequence[NewJudgement] = (),
        cursor: tuple[int, int] | None = None,
    ) -> None:
        """Store comparisons, with them the judgements that follow from them, and move a stage's cursor.

        All in one transaction; repeats are ignored. `cursor`: (stage id, item id).
        """
        shared = {"iteration_id": iteration_id, "judge_id": judge_id, "session_id": session_id}
        rows = [{**shared, **_row(comparison)} for comparison in comparisons]
        with self._database.write() as connection:
            insert_new(connection, CandidateComparison, rows)
            add_judgements(connection, judge_id, session_id, judgements)
            if cursor is not None:
                connection.execute(move_cursor(*cursor))
            crash_point("judge:storing")

    def position_bias(self, iteration_id: int, judge_id: int) -> tuple[int, int, int]:
        """(comparisons, couples read in both orders, couples whose verdict changes with the order).

        Of this judge and the candidates of an iteration: a comparison is one order of a couple.
        """
        with self._database.read() as connection:
            asked, read, flipped = connection.execute(_position_bias(iteration_id, judge_id)).one()
        return asked, read, flipped


def unsettled(
    iteration_id: int, judge_id: int, least: int, after: int, limit: int, anchors: bool
) -> AnySelect:
    """The work query of pairwise judging: pages over the last candidate of each prompt by ix_candidate_work.

    Candidates get their ids as they come in: a prompt that is complete later has a greater last one, and
    is not passed over.
    """
    sibling, unjudged, later = (aliased(Candidate, name=name) for name in ("sibling", "unjudged", "later"))
    of_prompt = _taking_part(sibling, anchors) & (sibling.prompt_id == Candidate.prompt_id)
    count = select(func.count()).where(of_prompt)
    settled = exists().where(Judgement.candidate_id == unjudged.id, Judgement.judge_id == judge_id)
    lacking = exists().where(
        unjudged.prompt_id == Candidate.prompt_id,
        _taking_part(unjudged, anchors),
        unjudged.status.in_(JUDGEABLE),
        ~settled,
    )
    after_it = exists().where(
        later.prompt_id == Candidate.prompt_id, _taking_part(later, anchors), later.id > Candidate.id
    )
    return (
        select(Candidate.id, Candidate.prompt_id, Prompt.text.label("prompt_text"))
        .join(Prompt, Prompt.id == Candidate.prompt_id)
        .where(
            Candidate.iteration_id == iteration_id,
            Candidate.id > after,
            _taking_part(Candidate, anchors),
            ~after_it,
            count.scalar_subquery() >= least,
            count.where(sibling.status.in_(JUDGEABLE)).scalar_subquery() >= 2,
            lacking,
        )
        .order_by(Candidate.id)
        .limit(limit)
    )


def _taking_part(candidate: Any, anchors: bool) -> Any:
    return candidate.id.is_not(None) if anchors else candidate.checkpoint_id.is_(None)


def _contests(connection: Connection, found: Sequence[AnyRow], judge_id: int, anchors: bool) -> list[Contest]:
    texts: dict[int, dict[int, str]] = defaultdict(dict)
    theirs: set[int] = set()
    for row in connection.execute(_candidates([row.prompt_id for row in found], anchors)):
        texts[row.prompt_id][row.id] = row.text
        if row.checkpoint_id is not None:
            theirs.add(row.id)
    known = _orders(connection, judge_id, [key for each in texts.values() for key in each])
    return [
        Contest(
            id=row.id,
            prompt_id=row.prompt_id,
            prompt_text=row.prompt_text,
            texts=texts[row.prompt_id],
            anchors=frozenset(theirs & texts[row.prompt_id].keys()),
            orders={order: known[order] for order in known if texts[row.prompt_id].keys() >= set(order)},
        )
        for row in found
    ]


def _candidates(prompts: Sequence[int], anchors: bool) -> AnySelect:
    return (
        select(Candidate.id, Candidate.prompt_id, Candidate.text, Candidate.checkpoint_id)
        .where(
            Candidate.prompt_id.in_(prompts),
            Candidate.status.in_(JUDGEABLE),
            _taking_part(Candidate, anchors),
        )
        .order_by(Candidate.prompt_id, Candidate.candidate_index)
    )


def _orders(connection: Connection, judge_id: int, candidates: Iterable[int]) -> dict[tuple[int, int], Shown]:
    compared = CandidateComparison
    query = select(compared.first_id, compared.second_id, compared.status, compared.probability_first).where(
        compared.judge_id == judge_id, compared.first_id.in_(list(candidates))
    )
    return {
        (first, second): Shown(status=JudgementStatus(status), probability_first=probability)
        for first, second, status, probability in connection.execute(query)
    }


def _position_bias(iteration_id: int, judge_id: int) -> AnySelect:
    there, back = aliased(CandidateComparison, name="there"), aliased(CandidateComparison, name="back")
    reverse = and_(
        back.judge_id == there.judge_id,
        back.first_id == there.second_id,
        back.second_id == there.first_id,
        there.first_id < there.second_id,
    )
    read = and_(there.probability_first.is_not(None), back.probability_first.is_not(None))
    same_place = (there.probability_first - 0.5) * (back.probability_first - 0.5) > 0
    return (
        select(
            func.count(),
            func.count(case((read, 1))),
            func.count(case((and_(read, same_place), 1))),
        )
        .select_from(there)
        .join(Candidate, Candidate.id == there.first_id)
        .outerjoin(back, reverse)
        .where(there.judge_id == judge_id, Candidate.iteration_id == iteration_id)
    )


def _row(comparison: NewCandidateComparison) -> dict[str, Any]:
    return {
        "first_id": comparison.first_id,
        "second_id": comparison.second_id,
        "status": comparison.status,
        "probability_first": comparison.probability_first,
        "lost_mass": comparison.lost_mass,
        "raw_text": comparison.raw_text,
        "token_count": comparison.token_count,
        "created_at": now(),
    }
