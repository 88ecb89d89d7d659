"""Ranked replies of the seeds, and how judges have judged them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from selfreward.crash import crash_point
from selfreward.store.candidates import expectation, move_cursor
from selfreward.store.database import Database
from selfreward.store.lineage import seeds_of
from selfreward.store.rows import insert_new, now
from selfreward.store.schema import Judge, Prompt, RankedReply, ReplyJudgement
from selfreward.types import (
    CandidateTask,
    JudgedReply,
    NewReplyJudgement,
    PromptSource,
    RankedPrompt,
    Split,
    StoredReading,
    StoredReply,
)


class Replies:
    """Queries about ranked replies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prompts(self, run_id: int, split: Split, most: int | None = None) -> list[int]:
        """Ids of the seeds with ranked replies: whole ones, while they have at most `most` replies together.

        In an order that does not depend on the files they came from, so that a part is a fair sample.
        """
        query = (
            select(Prompt.id, func.count())
            .join(RankedReply, RankedReply.prompt_id == Prompt.id)
            .where(
                seeds_of(Prompt.run_id, run_id),
                Prompt.source == PromptSource.SEED,
                Prompt.split == split,
                RankedReply.canary_of.is_(None),
            )
            .group_by(Prompt.id, Prompt.text_hash)
            .order_by(Prompt.text_hash)
        )
        chosen, replies = [], 0
        with self._database.read() as connection:
            for prompt_id, count in connection.execute(query):
                replies += count
                if most is not None and replies > most:
                    break
                chosen.append(prompt_id)
        return chosen

    def held_out(self, run_id: int, most: int) -> list[int]:
        """Ids of held-out seeds with at most `most` ranked replies together."""
        return self.prompts(run_id, Split.HELD_OUT, most)

    def ranked(self, prompt_ids: Sequence[int]) -> list[RankedPrompt]:
        """These seeds with their real replies, in the order of `prompt_ids`."""
        prompts = select(Prompt.id, Prompt.text, Prompt.reference).where(Prompt.id.in_(prompt_ids))
        replies = (
            select(RankedReply)
            .where(RankedReply.prompt_id.in_(prompt_ids), RankedReply.canary_of.is_(None))
            .order_by(RankedReply.prompt_id, RankedReply.position)
        )
        found: dict[int, list[StoredReply]] = defaultdict(list)
        with self._database.read() as connection:
            rows = {row.id: row for row in connection.execute(prompts)}
            for reply in connection.execute(replies):
                found[reply.prompt_id].append(
                    StoredReply(
                        id=reply.id,
                        position=reply.position,
                        text=reply.text,
                        rank=reply.rank,
                        score=reply.score,
                        justification=reply.justification,
                    )
                )
        return [
            RankedPrompt(
                id=key, text=rows[key].text, reference=rows[key].reference, replies=tuple(found[key])
            )
            for key in prompt_ids
        ]

    def short_of_judgements(
        self, prompt_ids: Sequence[int], judge_id: int, wanted: int, after: int, limit: int
    ) -> list[CandidateTask]:
        """Replies to these seeds, canaries too, that lack some of their `wanted` judgements by this judge."""
        have = (
            select(func.count())
            .where(ReplyJudgement.reply_id == RankedReply.id, ReplyJudgement.judge_id == judge_id)
            .scalar_subquery()
        )
        query = (
            select(RankedReply.id, RankedReply.prompt_id, RankedReply.text, Prompt.text.label("prompt_text"))
            .join(Prompt, Prompt.id == RankedReply.prompt_id)
            .where(RankedReply.prompt_id.in_(prompt_ids), RankedReply.id > after, have < wanted)
            .order_by(RankedReply.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            found = connection.execute(query).all()
            done: dict[int, set[int]] = defaultdict(set)
            samples = select(ReplyJudgement.reply_id, ReplyJudgement.sample).where(
                ReplyJudgement.judge_id == judge_id, ReplyJudgement.reply_id.in_([row.id for row in found])
            )
            for reply_id, sample in connection.execute(samples):
                done[reply_id].add(sample)
        return [
            CandidateTask(
                id=row.id,
                prompt_id=row.prompt_id,
                prompt_text=row.prompt_text,
                text=row.text,
                missing=tuple(sample for sample in range(wanted) if sample not in done[row.id]),
            )
            for row in found
        ]

    def add_judgements(
        self,
        judge_id: int,
        stage_id: int,
        session_id: int | None,
        judgements: Sequence[NewReplyJudgement],
        cursor: int,
    ) -> None:
        """Store judgements and move the stage's cursor, in one transaction. Repeats are ignored."""
        rows = [_judgement_row(judge_id, session_id, judgement) for judgement in judgements]
        with self._database.write() as connection:
            insert_new(connection, ReplyJudgement, rows)
            connection.execute(move_cursor(stage_id, cursor))
            crash_point("judge_held_out:storing")

    def count(self, prompt_ids: Sequence[int]) -> int:
        """Replies of these seeds, canaries too."""
        query = select(func.count()).where(RankedReply.prompt_id.in_(prompt_ids))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def judgement_count(self, judge_id: int, prompt_ids: Sequence[int]) -> int:
        """Judgements of these seeds' replies that a judge has given."""
        query = (
            select(func.count())
            .select_from(ReplyJudgement)
            .join(RankedReply, RankedReply.id == ReplyJudgement.reply_id)
            .where(ReplyJudgement.judge_id == judge_id, RankedReply.prompt_id.in_(prompt_ids))
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def judged(self, judge_id: int, prompt_ids: Sequence[int]) -> list[JudgedReply]:
        """The replies of these seeds, canaries too, with what a judge gave them, by id."""
        query = (
            select(
                RankedReply.id,
                RankedReply.prompt_id,
                RankedReply.rank,
                RankedReply.canary_of,
                func.length(RankedReply.text).label("length"),
                ReplyJudgement.score,
            )
            .join(ReplyJudgement, ReplyJudgement.reply_id == RankedReply.id)
            .where(RankedReply.prompt_id.in_(prompt_ids), ReplyJudgement.judge_id == judge_id)
            .order_by(RankedReply.id, ReplyJudgement.sample)
        )
        scores: dict[int, list[float]] = defaultdict(list)
        asked: Counter[int] = Counter()
        rows: dict[int, Any] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                rows[row.id] = row
                asked[row.id] += 1
                if row.score is not None:
                    scores[row.id].append(row.score)
        return [
            JudgedReply(
                reply_id=key,
                prompt_id=row.prompt_id,
                rank=row.rank,
                length=row.length,
                scores=tuple(scores[key]),
                samples=asked[key],
                canary_of=row.canary_of,
            )
            for key, row in rows.items()
        ]

    def judged_alike(self, judge_id: int, checkpoint_id: int, prompt_ids: Sequence[int]) -> list[JudgedReply]:
        """What another checkpoint gave the same replies, judging in the same way; empty if it never did."""
        way = select(Judge.digest).where(Judge.id == judge_id).scalar_subquery()
        query = select(Judge.id).where(Judge.checkpoint_id == checkpoint_id, Judge.digest == way)
        with self._database.read() as connection:
            other = connection.execute(query).scalar_one_or_none()
        return [] if other is None else self.judged(other, prompt_ids)

    def readings(self, judge_id: int, prompt_ids: Sequence[int]) -> Mapping[int, list[StoredReading]]:
        """The readable judgements of a judge by reply, in sample order."""
        query = (
            select(
                ReplyJudgement.id,
                ReplyJudgement.reply_id,
                ReplyJudgement.sample,
                ReplyJudgement.raw_text,
                ReplyJudgement.score,
            )
            .join(RankedReply, RankedReply.id == ReplyJudgement.reply_id)
            .where(
                ReplyJudgement.judge_id == judge_id,
                ReplyJudgement.score.is_not(None),
                RankedReply.prompt_id.in_(prompt_ids),
            )
            .order_by(ReplyJudgement.reply_id, ReplyJudgement.sample)
        )
        found: dict[int, list[StoredReading]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(query):
                reading = StoredReading(
                    id=row.id, sample=row.sample, raw_text=row.raw_text, score=float(row.score or 0)
                )
                found[row.reply_id].append(reading)
        return found


def _judgement_row(judge_id: int, session_id: int | None, judgement: NewReplyJudgement) -> dict[str, Any]:
    return {
        "reply_id": judgement.reply_id,
        "judge_id": judge_id,
        "sample": judgement.sample,
        "session_id": session_id,
        "raw_text": judgement.raw_text,
        "status": judgement.status,
        "score": judgement.score,
        **expectation(judgement.probabilities),
        "token_count": judgement.token_count,
        "finish_reason": judgement.finish_reason,
        "created_at": now(),
    }
