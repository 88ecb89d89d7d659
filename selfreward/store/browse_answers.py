"""The same held-out prompts answered by two checkpoints, side by side, with what judges made of both."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, select

from selfreward.store.browsed import (
    AnswerDetail,
    AnswersRow,
    AnswersSummary,
    JudgedAnswers,
    Page,
    VerdictRow,
)
from selfreward.store.database import Database
from selfreward.store.rows import AnyRow
from selfreward.store.schema import Answer, AnswerComparison, Checkpoint, Judge, Prompt
from selfreward.store.search import paged
from selfreward.types import CandidateStatus, Verdict

ONE, TWO = (Answer.__table__.alias(name) for name in ("one", "two"))
BOTH = (TWO.c.prompt_id == ONE.c.prompt_id) & (TWO.c.id != ONE.c.id)
JUDGED_BY = func.coalesce(Checkpoint.name, "independent").label("judged_by")


class AnswersSideBySide:
    """Queries about held-out answers: a part of `Browse`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def answers_side_by_side(
        self,
        first_id: int,
        second_id: int,
        *,
        prompt_id: int | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> Page[AnswersRow]:
        """Held-out prompts that both checkpoints (by id) have answered, in the order of the prompts' ids.

        `after` and `before` are prompts' ids. With `prompt_id` that prompt alone, or an empty page.
        """
        query = (
            select(ONE.c.prompt_id.label("id"), Prompt.text, Prompt.reference, ONE.c.id, TWO.c.id)
            .join(TWO, BOTH)
            .join(Prompt, Prompt.id == ONE.c.prompt_id)
            .where(ONE.c.checkpoint_id == first_id, TWO.c.checkpoint_id == second_id)
            .order_by(ONE.c.prompt_id.desc() if before is not None else ONE.c.prompt_id)
            .limit(limit + 1)
        )
        if prompt_id is not None:
            query = query.where(ONE.c.prompt_id == prompt_id)
        elif before is not None:
            query = query.where(ONE.c.prompt_id < before)
        elif after is not None:
            query = query.where(ONE.c.prompt_id > after)
        with self._database.read() as connection:
            found = connection.execute(query).all()
            more, found = len(found) > limit, sorted(found[:limit])
            answers = _answers(connection, [key for row in found for key in row[3:]])
            verdicts = _verdicts(connection, {(row[3], row[4]): row[0] for row in found})
        page = paged(found, more, after, before)
        rows = tuple(
            AnswersRow(
                prompt_id=key,
                prompt=text,
                reference=reference,
                first=answers[one],
                second=answers[two],
                verdicts=tuple(verdicts[key]),
            )
            for key, text, reference, one, two in found
        )
        return Page(rows=rows, after=page.after, before=page.before)

    def answers_summary(self, first_id: int, second_id: int) -> AnswersSummary:
        """The same over all prompts that both have answered."""
        query = (
            select(
                func.count(),
                func.count().filter(ONE.c.text == TWO.c.text),
                func.avg(ONE.c.token_count),
                func.avg(TWO.c.token_count),
            )
            .select_from(ONE)
            .join(TWO, BOTH)
            .where(ONE.c.checkpoint_id == first_id, TWO.c.checkpoint_id == second_id)
        )
        with self._database.read() as connection:
            prompts, same, first, second = connection.execute(query).one()
            judged = _judged(connection, first_id, second_id)
        return AnswersSummary(
            prompts=prompts,
            same=same,
            first_tokens=None if first is None else float(first),
            second_tokens=None if second is None else float(second),
            judged=tuple(judged),
        )


def outcome(verdicts: Sequence[VerdictRow]) -> Verdict | None:
    """Whose answer one judge prefers in both orders; None when they disagree, or one cannot be read."""
    preferred = {row.preferred for row in verdicts}
    shown = {row.shown_first for row in verdicts}
    return preferred.pop() if len(preferred) == 1 and len(shown) == 2 else None


def _answers(connection: Connection, ids: Sequence[int]) -> Mapping[int, AnswerDetail]:
    columns = (Answer.id, Answer.text, Answer.status, Answer.token_count, Answer.mean_logprob)
    query = select(*columns).where(Answer.id.in_(ids))
    return {
        row.id: AnswerDetail(**row._asdict() | {"status": CandidateStatus(row.status)})
        for row in connection.execute(query)
    }


def _verdicts(
    connection: Connection, answers: Mapping[tuple[int, int], int]
) -> Mapping[int, list[VerdictRow]]:
    """Verdicts by prompt; `answers`: (first checkpoint's answer, second's) → prompt."""
    ids = [key for both in answers for key in both]
    judges = select(Judge.id).where(Judge.type == "pairwise")  # the index begins with the judge
    query = (
        select(
            AnswerComparison.first_id,
            AnswerComparison.second_id,
            AnswerComparison.verdict,
            AnswerComparison.probability_first,
            JUDGED_BY,
        )
        .join(Judge, Judge.id == AnswerComparison.judge_id)
        .outerjoin(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
        .where(
            AnswerComparison.judge_id.in_(judges),
            AnswerComparison.first_id.in_(ids),
            AnswerComparison.second_id.in_(ids),
        )
        .order_by(AnswerComparison.judge_id, AnswerComparison.id)
    )
    found: dict[int, list[VerdictRow]] = defaultdict(list)
    for row in connection.execute(query):
        prompt = answers.get((row.first_id, row.second_id))
        as_asked = prompt is not None
        prompt = prompt if as_asked else answers.get((row.second_id, row.first_id))
        if prompt is not None:
            found[prompt].append(_verdict(row, as_asked))
    return found


def _verdict(row: AnyRow, as_asked: bool) -> VerdictRow:
    """In terms of the two checkpoints: the judge's `first` is what it was shown first."""
    sides = (Verdict.FIRST, Verdict.SECOND) if as_asked else (Verdict.SECOND, Verdict.FIRST)
    preferred = None if row.verdict is None else sides[row.verdict != Verdict.FIRST]
    return VerdictRow(
        judged_by=row.judged_by,
        shown_first=sides[0],
        preferred=preferred,
        probability=row.probability_first,
    )


def _judged(connection: Connection, first_id: int, second_id: int) -> list[JudgedAnswers]:
    """Prompts won by each, by judge."""
    both = (first_id, second_id)
    query = (
        select(
            AnswerComparison.judge_id,
            ONE.c.prompt_id,
            ONE.c.checkpoint_id,
            AnswerComparison.verdict,
            AnswerComparison.probability_first,
            JUDGED_BY,
        )
        .join(ONE, ONE.c.id == AnswerComparison.first_id)
        .join(TWO, TWO.c.id == AnswerComparison.second_id)
        .join(Judge, Judge.id == AnswerComparison.judge_id)
        .outerjoin(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
        .where(ONE.c.checkpoint_id.in_(both), TWO.c.checkpoint_id.in_(both))
        .order_by(AnswerComparison.judge_id, AnswerComparison.id)
    )
    prompts: dict[tuple[int, str], dict[int, list[VerdictRow]]] = defaultdict(lambda: defaultdict(list))
    for row in connection.execute(query):
        as_asked = row.checkpoint_id == first_id
        prompts[row.judge_id, row.judged_by][row.prompt_id].append(_verdict(row, as_asked))
    found = []
    for (_, judge), rows in prompts.items():
        wins = Counter(outcome(verdicts) for verdicts in rows.values())
        found.append(
            JudgedAnswers(
                judged_by=judge,
                first=wins[Verdict.FIRST],
                second=wins[Verdict.SECOND],
                undecided=wins[None],
            )
        )
    return found
