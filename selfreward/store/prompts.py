"""Prompts: the seeds, what the model wrote, and which still lack candidates."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select, update

from selfreward.store.database import Database
from selfreward.store.rows import AnySelect, insert_new, insert_one, now
from selfreward.store.schema import Candidate, Prompt, PromptDemonstration, Stage
from selfreward.text import clean, digest
from selfreward.types import PromptRow, PromptSource, PromptStatus, Seed, WrittenPrompt


class Prompts:
    """Queries about prompts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_seeds(self, run_id: int, seeds: Iterable[Seed]) -> None:
        """Store the seeds of a run; ones that are there already stay as they are."""
        with self._database.write() as connection:
            insert_new(connection, Prompt, [_seed_row(run_id, seed) for seed in seeds])

    def seeds(self, run_id: int) -> list[PromptRow]:
        """The seeds of a run, in the order in which they were stored."""
        query = select(Prompt.id, Prompt.text).where(
            Prompt.run_id == run_id, Prompt.source == PromptSource.SEED
        )
        return self._rows(query.order_by(Prompt.id))

    def written(self, run_id: int) -> list[PromptRow]:
        """Every accepted prompt that the models of a run wrote, oldest first."""
        query = select(Prompt.id, Prompt.text).where(
            Prompt.run_id == run_id,
            Prompt.source == PromptSource.SELF_INSTRUCT,
            Prompt.status == PromptStatus.ACCEPTED,
        )
        return self._rows(query.order_by(Prompt.id))

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
        """Store what the model wrote, with its demonstrations; returns the new prompt's id."""
        with self._database.write() as connection:
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
        return key

    def short_of_candidates(self, iteration_id: int, wanted: int, after: int, limit: int) -> list[PromptRow]:
        """Accepted prompts with an id above `after` that lack some of their `wanted` candidates."""
        with self._database.read() as connection:
            found = connection.execute(short_of_candidates(iteration_id, wanted, after, limit)).all()
            have: dict[int, set[int]] = defaultdict(set)
            query = select(Candidate.prompt_id, Candidate.candidate_index).where(
                Candidate.prompt_id.in_([row.id for row in found])
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
    have = (
        select(func.count()).select_from(Candidate).where(Candidate.prompt_id == Prompt.id).scalar_subquery()
    )
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


def _seed_row(run_id: int, seed: Seed) -> dict[str, Any]:
    text = clean(seed.instruction)
    return {
        "run_id": run_id,
        "source": PromptSource.SEED,
        "origin": seed.origin,
        "text": text,
        "text_hash": digest(text),
        "reference": None if seed.answer is None else clean(seed.answer),
        "status": PromptStatus.ACCEPTED,
        "created_at": now(),
    }


def _written_row(run_id: int, iteration_id: int, prompt: WrittenPrompt) -> dict[str, Any]:
    text = clean(prompt.text)
    return {
        "run_id": run_id,
        "iteration_id": iteration_id,
        "source": PromptSource.SELF_INSTRUCT,
        "draw": prompt.draw,
        "draw_index": prompt.draw_index,
        "text": text,
        "text_hash": digest(text),
        "status": prompt.status,
        "reject_reason": prompt.reject_reason,
        "nearest_prompt_id": prompt.nearest_prompt_id,
        "nearest_rouge_l": prompt.nearest_rouge_l,
        "created_at": now(),
    }
