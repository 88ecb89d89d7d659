"""A run as it is after many iterations, written in bulk: the rows of days, in a minute.

The last iteration is in the middle of judging: its prompts and candidates are all there, and about half
of the judgements.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, insert, text

from selfreward.config import Settings
from selfreward.reporting import LogReporter
from selfreward.seeds import read_seeds
from selfreward.stages.judge import judge_id
from selfreward.stages.workplace import Workplace
from selfreward.store import Store
from selfreward.store.rows import now
from selfreward.store.schema import PairDecision, PreferencePair, Prompt, Stage, TrainingMetric, UtcDateTime
from selfreward.text import digest
from selfreward.training.checkpoint import write_manifest
from selfreward.types import (
    CheckpointKind,
    PairOutcome,
    PromptSource,
    PromptStatus,
    RejectReason,
    StageName,
    Status,
)
from tests.bench.bulk_sql import (
    ANSWERS,
    CANDIDATE_TALLY,
    CANDIDATES,
    CANDIDATES_OF,
    DEMONSTRATIONS,
    JUDGEMENT_TALLY,
    JUDGEMENTS,
    NUMBERS,
    REPLY_JUDGEMENTS,
    score_of,
)

WRITING = (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE)
ORDER = (
    *WRITING,
    StageName.ANSWER_HELD_OUT,
    StageName.JUDGE_HELD_OUT,
    StageName.COMPARE,
    StageName.EVALUATE,
    StageName.PAIR,
    StageName.CHECK,
    StageName.TRAIN,
)
SHOWN = 8
REJECTED_OF = 5
"""Every fifth prompt that was written is a rejected one."""
STEPS, METRICS = 100, ("loss", "learning_rate", "grad_norm", "rewards/margins", "rewards/accuracies")
SEED = 20_25
HOUR = timedelta(hours=1)
"""What each stage took."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything. The default has 1.02 million candidates and 3 million judgements."""

    iterations: int = 51
    prompts: int = 5_000
    """Accepted ones of an iteration."""
    candidates: int = 4
    judgements: int = 3

    @property
    def written(self) -> int:
        """Prompts of an iteration, the rejected ones too."""
        return self.prompts * REJECTED_OF // (REJECTED_OF - 1)


@dataclass(frozen=True, kw_only=True)
class InProgress:
    """The last iteration: prompts and candidates are there, judgements up to the candidate `judged`."""

    place: Workplace
    judge: int
    judged: int


class Bulk:
    """Writes the run of `settings` in `directory`, which is to be empty."""

    def __init__(self, store: Store, settings: Settings, directory: Path, size: Size) -> None:
        self._store, self._settings, self._directory, self._size = store, settings, directory, size
        self._run = store.runs.ensure(settings.name)
        self._draw = random.Random(SEED)
        seeds = read_seeds(settings.seeds.files, directory, settings.seeds.held_out).seeds
        store.prompts.add_seeds(self._run.id, seeds)
        self._words = [word for seed in seeds for word in seed.instruction.split()]
        self._fixed = {"filler": " ".join(self._words)[:4_000], "seeds": len(seeds), "at": now()}
        self._digest = write_checkpoint(directory / "models" / "M_1")
        self._parent: int | None = None

    def write(self) -> InProgress:
        """All iterations, the last one up to the middle of its judging."""
        for t in range(1, self._size.iterations):
            self._iteration(t, last=False)
        return self._iteration(self._size.iterations, last=True)

    def _iteration(self, t: int, last: bool) -> InProgress:
        place = self._place(t)
        judge, iteration = judge_id(place), place.iteration.id
        self._store.runs.set_judge(iteration, judge)
        session = self._store.runs.begin_session(iteration, place.checkpoint.id, "fake", 7)
        names = {
            "iteration": iteration,
            "checkpoint": place.checkpoint.id,
            "judge": judge,
            "session": session,
        }
        values = {**self._fixed, **names}
        with self._store.database.write() as connection:
            connection.execute(insert(Prompt), list(self._prompts(iteration)))
            _run(connection, DEMONSTRATIONS, SHOWN, values)
            _run(connection, CANDIDATES, self._size.candidates, values)
            candidates = connection.execute(text(CANDIDATES_OF), values).all()
            judged = candidates[len(candidates) // 2 if last else -1].id
            _run(connection, JUDGEMENTS, self._size.judgements, {**values, "last": judged})
            for tally in (CANDIDATE_TALLY, JUDGEMENT_TALLY):
                connection.execute(text(tally), names)
            _run(connection, REPLY_JUDGEMENTS, 1, values)
            connection.execute(insert(Stage), _stages(iteration, last, candidates[-1].prompt_id, judged))
            if not last:
                _run(connection, ANSWERS, 1, values)
                _pair(connection, iteration, judge, candidates)
                connection.execute(insert(TrainingMetric), _metrics(iteration))
                connection.execute(text("UPDATE iteration SET status = 'done' WHERE id = :iteration"), names)
        return InProgress(place=place, judge=judge, judged=judged)

    def _place(self, t: int) -> Workplace:
        runs, kind = self._store.runs, CheckpointKind.BASE if t == 1 else CheckpointKind.DPO
        checkpoint = runs.add_checkpoint(self._run.id, t, kind, "models/M_1", self._digest, self._parent)
        self._parent = checkpoint.id
        return Workplace(
            directory=self._directory,
            store=self._store,
            settings=self._settings,
            run=self._run,
            iteration=runs.open_iteration(self._run.id, t, checkpoint.id, self._settings),
            checkpoint=checkpoint,
            fence=0,
            reporter=LogReporter({}),
            stop=asyncio.Event(),
        )

    def _prompts(self, iteration: int) -> Iterator[dict[str, Any]]:
        """Accepted prompts, and a rejected one after every few of them."""
        for draw in range(1, self._size.written + 1):
            kept = draw % REJECTED_OF != 0
            instruction = self._instruction()
            yield {
                "run_id": self._run.id,
                "iteration_id": iteration,
                "source": PromptSource.SELF_INSTRUCT,
                "draw": draw,
                "draw_index": 0,
                "text": instruction,
                "text_hash": digest(instruction),
                "status": PromptStatus.ACCEPTED if kept else PromptStatus.REJECTED,
                "reject_reason": None if kept else RejectReason.SIMILAR,
                "nearest_prompt_id": 1,
                "nearest_rouge_l": 0.4 if kept else 0.8,
                "created_at": self._fixed["at"],
            }

    def _instruction(self) -> str:
        """5 to 40 words, in runs of up to 8 as the seeds have them."""
        wanted, words = self._draw.randint(5, 40), list[str]()
        while len(words) < wanted:
            start = self._draw.randrange(len(self._words))
            words += self._words[start : start + min(8, wanted - len(words))]
        return " ".join(words)


def write_checkpoint(path: Path) -> str:
    """A directory that is complete and intact, for engines that do not read it; returns its digest."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.safetensors").write_bytes(bytes(64))
    (path / "config.json").write_text("{}", encoding="utf-8")
    return write_manifest(path)


def _run(connection: Connection, statement: str, count: int, values: dict[str, Any]) -> None:
    query = text(NUMBERS + statement)
    if ":at" in statement:
        query = query.bindparams(bindparam("at", type_=UtcDateTime()))
    connection.execute(query, {**values, "count": count})


def _pair(connection: Connection, iteration: int, judge: int, candidates: Sequence[Any]) -> None:
    """The best and the worst candidate of each prompt, by the scores that JUDGEMENTS gives."""
    decisions, pairs = [], []
    for prompt, of_prompt in groupby(candidates, key=lambda row: row.prompt_id):
        scored = [(score_of(prompt, row.candidate_index), row.id) for row in of_prompt if row.status == "ok"]
        (worst, rejected), (best, chosen) = min(scored), max(scored)
        outcome = PairOutcome.TIE if best == worst else PairOutcome.PAIRED
        decisions.append(
            {
                "iteration_id": iteration,
                "prompt_id": prompt,
                "outcome": outcome,
                "best_score": best,
                "worst_score": worst,
            }
        )
        if best > worst:
            pairs.append(
                {
                    "iteration_id": iteration,
                    "prompt_id": prompt,
                    "judge_id": judge,
                    "chosen_id": chosen,
                    "rejected_id": rejected,
                    "chosen_score": best,
                    "rejected_score": worst,
                    "margin": best - worst,
                    "created_at": now(),
                }
            )
    connection.execute(insert(PairDecision), decisions)
    connection.execute(insert(PreferencePair), pairs)


def _metrics(iteration: int) -> list[dict[str, Any]]:
    return [
        {"iteration_id": iteration, "stage": "train", "attempt": 1, "step": step, "name": name, "value": 0.5}
        for step in range(1, STEPS + 1)
        for name in METRICS
    ]


def _stages(iteration: int, last: bool, prompts: int, judged: int) -> list[dict[str, Any]]:
    """All of them done; in the last iteration judging is under way and what follows has not begun."""
    names, running = WRITING if last else ORDER, StageName.JUDGE if last else None
    return [
        {
            "iteration_id": iteration,
            "name": name,
            "status": Status.RUNNING if name is running else Status.DONE,
            "attempts": 1,
            "cursor": judged if name is StageName.JUDGE else prompts,
            "detail": "",
            "started_at": now() - HOUR,
            "finished_at": None if name is running else now(),
        }
        for name in names
    ]
