"""Prompts: the seeds, what the model wrote, and which still lack candidates."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from selfreward.crash import crash_point
from selfreward.store.database import Database
from selfreward.store.lineage import data_iterations, lineage, seeds_of
from selfreward.store.rows import AnyRow, AnySelect, insert_new, insert_one, now
from selfreward.store.schema import Candidate, Prompt, PromptDemonstration, RankedReply, Stage
from selfreward.text import fingerprint
from selfreward.types import PromptRow, PromptSource, PromptStatus, Seed, Split, WrittenPrompt
from selfreward.types import RankedReply as Reply

SEED_PAGE = 500


class Prompts:
    """Queries about prompts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_seeds(self, run_id: int, seeds: Sequence[Seed]) -> int:
        """Store the seeds of a run with their ranked replies, in one transaction; returns how many are new.

        One that is there already stays as it is; replies are added to it where it has none.
        """
        with self._database.write() as connection:
            before = _seed_count(connection, run_id)
            for page in _pages(seeds):
                insert_new(connection, Prompt, [_seed_row(run_id, seed) for seed in page])
                _add_replies(connection, run_id, page)
            return _seed_count(connection, run_id) - before

    def seeds(self, run_id: int, split: Split = Split.TRAIN) -> list[PromptRow]:
        """The seeds of a run that may be shown to a model, in the order in which they were stored."""
        query = select(Prompt.id, Prompt.text).where(
            seeds_of(Prompt.run_id, run_id), Prompt.source == PromptSource.SEED, Prompt.split == split
        )
        return self._rows(query.order_by(Prompt.id))

    def answered(self, run_id: int) -> list[tuple[int, str, str]]:
        """(id, instruction, answer) of the training seeds that have an answer.

        In an order that does not depend on the files they came from, so that a part is a fair sample.
        """
        query = (
            select(Prompt.id, Prompt.text, Prompt.reference)
            .where(
                seeds_of(Prompt.run_id, run_id),
                Prompt.source == PromptSource.SEED,
                Prompt.split == Split.TRAIN,
                Prompt.reference.is_not(None),
            )
            .order_by(Prompt.text_hash)
        )
        with self._database.read() as connection:
            return [(key, text, reference or "") for key, text, reference in connection.execute(query)]

    def seed(self, run_id: int, prompt_id: int) -> Seed | None:
        """One seed, whole; None when the run has no seed of this id."""
        mine = seeds_of(Prompt.run_id, run_id) & (Prompt.source == PromptSource.SEED)
        replies = select(RankedReply).where(RankedReply.prompt_id == prompt_id).order_by(RankedReply.position)
        with self._database.read() as connection:
            row = connection.execute(select(Prompt).where(mine, Prompt.id == prompt_id)).one_or_none()
            found = connection.execute(replies).all()
        if row is None:
            return None
        places = {reply.id: reply.position for reply in found}
        return Seed(
            instruction=row.text,
            answer=row.reference,
            origin=row.origin or "",
            split=Split(row.split),
            replies=tuple(_reply(reply, places) for reply in found),
        )

    def seed_origins(self, run_id: int) -> list[tuple[str, Split, int, int, int]]:
        """(origin, split, seeds, with an answer, with ranked replies) of a run, in the order stored."""
        ranked = select(RankedReply.prompt_id).where(RankedReply.prompt_id == Prompt.id).exists()
        query = (
            select(
                Prompt.origin,
                Prompt.split,
                func.count(),
                func.count(Prompt.reference),
                func.count().filter(ranked),
            )
            .where(seeds_of(Prompt.run_id, run_id), Prompt.source == PromptSource.SEED)
            .group_by(Prompt.origin, Prompt.split)
            .order_by(func.min(Prompt.id))
        )
        with self._database.read() as connection:
            return [
                (origin or "", Split(split or ""), total, answered, ranked_ones)
                for origin, split, total, answered, ranked_ones in connection.execute(query)
            ]

    def written(self, run_id: int) -> list[PromptRow]:
        """Every accepted prompt that a run's iterations use, those before it was forked too, oldest first."""
        with self._database.read() as connection:
            query = select(Prompt.id, Prompt.text).where(
                Prompt.iteration_id.in_(data_iterations(lineage(connection, run_id))),
                Prompt.source == PromptSource.SELF_INSTRUCT,
                Prompt.status == PromptStatus.ACCEPTED,
            )
            rows = connection.execute(query.order_by(Prompt.id))
            return [PromptRow(id=row.id, text=row.text) for row in rows]

    def accepted(self, iteration_id: int) -> list[PromptRow]:
        """The accepted prompts of an iteration, oldest first."""
        mine = (Prompt.iteration_id == iteration_id) & (Prompt.status == PromptStatus.ACCEPTED)
        return self._rows(select(Prompt.id, Prompt.text).where(mine).order_by(Prompt.id))

    def tally(self, iteration_id: int) -> tuple[int, int, int]:
        """(accepted, written, last draw) of an iteration's self-instruction."""
        query = select(
            func.count(Prompt.id).filter(Prompt.status == PromptStatus.ACCEPTED),
            func.count(Prompt.id),
            func.max(Prompt.draw),
        ).where(Prompt.iteration_id == iteration_id)
        with self._database.read() as connection:
            accepted, written, draw = connection.execute(query).one()
        return accepted, written, draw or 0

    def add_written(self, run_id: int, iteration_id: int, stage_id: int, prompt: WrittenPrompt) -> int:
        """Store what the model wrote, with its demonstrations; returns its id. A repeat is left as it is."""
        mine = (Prompt.iteration_id == iteration_id) & (Prompt.draw == prompt.draw)
        stored = select(Prompt.id).where(mine, Prompt.draw_index == prompt.draw_index)
        with self._database.write() as connection:
            known = connection.execute(stored).scalar_one_or_none()
            if known is not None:
                return known
            key = insert_one(connection, Prompt, **_written_row(run_id, iteration_id, prompt))
            shown = [
                {"prompt_id": key, "position": place, "demonstration_id": shown_id}
                for place, shown_id in enumerate(prompt.demonstration_ids)
            ]
            insert_new(connection, PromptDemonstration, shown)
            connection.execute(
                update(Stage)
                .where(Stage.id == stage_id, Stage.cursor < prompt.draw)
                .values(cursor=prompt.draw)
            )
            crash_point("self_instruct:storing")
        return key

    def short_of_candidates(self, iteration_id: int, wanted: int, after: int, limit: int) -> list[PromptRow]:
        """Accepted prompts with an id above `after` that lack some of their `wanted` candidates."""
        with self._database.read() as connection:
            found = connection.execute(short_of_candidates(iteration_id, wanted, after, limit)).all()
            have: dict[int, set[int]] = defaultdict(set)
            query = select(Candidate.prompt_id, Candidate.candidate_index).where(
                Candidate.prompt_id.in_([row.id for row in found]), Candidate.checkpoint_id.is_(None)
            )
            for prompt_id, index in connection.execute(query):
                have[prompt_id].add(index)
        return [
            PromptRow(
                id=row.id,
                text=row.text,
                missing=tuple(index for index in range(wanted) if index not in have[row.id]),
            )
            for row in found
        ]

    def _rows(self, query: AnySelect) -> list[PromptRow]:
        with self._database.read() as connection:
            return [PromptRow(id=row.id, text=row.text) for row in connection.execute(query)]


def short_of_candidates(iteration_id: int, wanted: int, after: int, limit: int) -> AnySelect:
    """The work query of the sample stage: pages by key over ix_prompt_work."""
    own = (Candidate.prompt_id == Prompt.id) & Candidate.checkpoint_id.is_(None)  # an anchor is none of them
    have = select(func.count()).select_from(Candidate).where(own).scalar_subquery()
    return (
        select(Prompt.id, Prompt.text)
        .where(
            Prompt.iteration_id == iteration_id,
            Prompt.status == PromptStatus.ACCEPTED,
            Prompt.id > after,
            have < wanted,
        )
        .order_by(Prompt.id)
        .limit(limit)
    )


def _seed_count(connection: Connection, run_id: int) -> int:
    query = select(func.count()).where(Prompt.run_id == run_id, Prompt.source == PromptSource.SEED)
    return connection.execute(query).scalar_one()


def _pages(seeds: Sequence[Seed]) -> Iterator[Sequence[Seed]]:
    """SQLite takes 32,766 parameters a statement."""
    return (seeds[start : start + SEED_PAGE] for start in range(0, len(seeds), SEED_PAGE))


def _add_replies(connection: Connection, run_id: int, seeds: Sequence[Seed]) -> None:
    """Ranked replies of seeds that have none yet; canaries last, for they name the reply they repeat.

    Of two seeds alike the first counts, as it would with one in an earlier page: hence `reversed`.
    """
    by_hash = {fingerprint(seed.instruction): seed for seed in reversed(seeds) if seed.replies}
    ranked = select(RankedReply.prompt_id).where(RankedReply.prompt_id == Prompt.id).exists()
    bare = select(Prompt.id, Prompt.text_hash).where(
        Prompt.run_id == run_id,
        Prompt.source == PromptSource.SEED,
        Prompt.text_hash.in_(by_hash),
        ~ranked,
    )
    replies = {row.id: by_hash[row.text_hash].replies for row in connection.execute(bare)}
    insert_new(connection, RankedReply, _reply_rows(replies, {}))
    query = select(RankedReply.prompt_id, RankedReply.position, RankedReply.id)
    stored = connection.execute(query.where(RankedReply.prompt_id.in_(replies))).all()
    insert_new(connection, RankedReply, _reply_rows(replies, {(row[0], row[1]): row[2] for row in stored}))


def _reply_rows(
    replies: Mapping[int, Sequence[Reply]], stored: Mapping[tuple[int, int], int]
) -> list[dict[str, Any]]:
    """Rows of the real replies while nothing is stored; of the canaries once those are."""
    return [
        {
            "prompt_id": prompt_id,
            "position": position,
            "text": reply.text,
            "rank": reply.rank,
            "score": reply.score,
            "justification": reply.justification,
            "canary_of": None if reply.canary_of is None else stored[prompt_id, reply.canary_of],
            "created_at": now(),
        }
        for prompt_id, of_prompt in replies.items()
        for position, reply in enumerate(of_prompt)
        if (reply.canary_of is not None) == bool(stored)
    ]


def _reply(row: AnyRow, places: Mapping[int, int]) -> Reply:
    return Reply(
        text=row.text,
        rank=row.rank,
        score=row.score,
        justification=row.justification,
        canary_of=None if row.canary_of is None else places[row.canary_of],
    )


def _seed_row(run_id: int, seed: Seed) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "source": PromptSource.SEED,
        "origin": seed.origin,
        "text": seed.instruction,
        "text_hash": fingerprint(seed.instruction),
        "reference": seed.answer,
        "split": seed.split,
        "status": PromptStatus.ACCEPTED,
        "created_at": now(),
    }


def _written_row(run_id: int, iteration_id: int, prompt: WrittenPrompt) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "iteration_id": iteration_id,
        "source": PromptSource.SELF_INSTRUCT,
        "draw": prompt.draw,
        "draw_index": prompt.draw_index,
        "text": prompt.text,
        "text_hash": fingerprint(prompt.text),
        "status": prompt.status,
        "reject_reason": prompt.reject_reason,
        "nearest_prompt_id": prompt.nearest_prompt_id,
        "nearest_rouge_l": prompt.nearest_rouge_l,
        "created_at": now(),
    }
