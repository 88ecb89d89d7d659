"""Writing prompts: what is shown, what is decided, and that a long history is read only when it is needed."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import select

from selfreward.config import Settings
from selfreward.dedupe import RougePool
from selfreward.engines.base import Engine
from selfreward.stages import self_instruct
from selfreward.stages.self_instruct import Draw, Reply, SelfInstruct
from selfreward.stages.workplace import Workplace
from selfreward.store.schema import Prompt
from selfreward.types import Completion, PromptStatus, RejectReason, Seed, Split, StageName
from tests.conftest import Filled

SEEDS = (
    "Name three colours that go well together in a garden.",
    "Explain to a child why the sea tastes of salt.",
    "Write a polite note that asks a neighbour for quiet.",
    "List five things that every bicycle needs to be safe.",
)
HELD_OUT = "Describe how bread rises while it is in the oven."
EARLIER = (
    "Suggest a dinner that can be cooked in one pot.",
    "Compare trains with planes for a trip of one day.",
    "Give two reasons to learn a second language early.",
)


class Silent:
    """A reporter that nobody reads."""

    def begin(self, *_: Any) -> None: ...
    def progress(self, *_: Any, **__: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def say(self, *_: Any, **__: Any) -> None: ...


@pytest.fixture
def place(filled: Filled, tmp_path: Path) -> Workplace:
    """An iteration with seeds, a held-out one, and prompts that were accepted before."""
    seeds = [Seed(instruction=text) for text in SEEDS]
    held_out = Seed(instruction=HELD_OUT, split=Split.HELD_OUT)
    filled.store.prompts.add_seeds(filled.run.id, [*seeds, held_out])
    for draw, text in enumerate(EARLIER, start=1):
        filled.prompt(text, draw=draw)
    filled.prompt("Was turned away and is never shown again.", draw=9, accepted=False)
    shown = {"seed_demonstrations": 2, "model_demonstrations": 2, "target": 20}
    return Workplace(
        directory=tmp_path,
        store=filled.store,
        settings=Settings.model_validate({"self_instruct": shown}),
        run=filled.run,
        iteration=filled.iteration,
        checkpoint=filled.checkpoint,
        fence=1,
        reporter=Silent(),
        stop=asyncio.Event(),
    )


def work_of(place: Workplace) -> SelfInstruct:
    stage = place.store.runs.begin_stage(place.iteration.id, StageName.SELF_INSTRUCT)
    return SelfInstruct(place, stage, cast("Engine", None))


def replies(draws: Sequence[Draw], texts: Sequence[str]) -> list[Reply]:
    return [
        Reply(
            draw=draw,
            index=0,
            completion=Completion(text=text, finish_reason="stop", token_count=9, mean_logprob=-1.0),
        )
        for draw, text in zip(draws, texts, strict=False)
    ]


def written(place: Workplace, after_draw: int) -> list[tuple[str, str | None, int | None, float | None]]:
    """(status, reason, nearest prompt, ROUGE-L) of what was decided, in the order of the draws."""
    columns = (Prompt.status, Prompt.reject_reason, Prompt.nearest_prompt_id, Prompt.nearest_rouge_l)
    query = select(*columns).where(Prompt.draw > after_draw).order_by(Prompt.draw)
    with place.store.database.read() as connection:
        return [tuple(row) for row in connection.execute(query)]  # type: ignore[misc]


def test_a_stage_that_is_done_reads_nothing_of_the_history(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.store.pool, "ids", None)
    monkeypatch.setattr(place.store.prompts, "written", None)
    work = work_of(place)
    assert (work.done(), work.total()) == (3, 20)


def test_requests_do_not_wait_for_the_pool(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.store.prompts, "written", None)
    assert len(work_of(place).fetch(0, 4)) == 4


def test_demonstrations_are_drawn_as_if_everything_had_been_read(place: Workplace) -> None:
    """The same seed, run, iteration, number and pool show the same prompts, whatever is held in memory."""
    seeds, own = place.store.prompts.seeds(place.run.id), place.store.prompts.written(place.run.id)
    assert len(own) == 3
    for draw in work_of(place).fetch(0, 8):
        generator = random.Random(f"{place.settings.seed}:{place.run.name}:{place.iteration.t}:{draw.id}")
        mine = generator.sample(own, 2)
        expected = generator.sample(seeds, 2) + mine
        generator.shuffle(expected)
        assert draw.demonstrations == tuple(expected)


def test_what_was_accepted_in_this_session_is_shown_too(place: Workplace) -> None:
    work = work_of(place)
    new = "Plan a walk through an old town for visitors."
    work.commit(replies(work.fetch(0, 1), [new]), 0)
    shown = {shown.text for draw in work.fetch(0, 20) for shown in draw.demonstrations}
    assert new in shown and HELD_OUT not in shown and set(EARLIER) <= shown


def test_a_pool_made_late_decides_as_one_made_at_the_start(place: Workplace) -> None:
    prompts, run_id = place.store.prompts, place.run.id
    reference = RougePool(place.settings.self_instruct.max_rouge_l)
    everything = (*prompts.seeds(run_id), *prompts.seeds(run_id, Split.HELD_OUT), *prompts.written(run_id))
    for prompt in everything:
        reference.add(prompt.id, prompt.text)
    new = "Plan a walk through an old town for visitors."
    texts = [
        "no",
        SEEDS[1].replace("child", "friend"),
        HELD_OUT.replace("bread", "cake"),
        EARLIER[0].replace("dinner", "supper"),
        new,
        new.replace("walk", "tour"),
    ]
    work = work_of(place)
    work.commit(replies(work.fetch(0, len(texts)), texts), 0)
    found = written(place, after_draw=9)
    assert [status for status, *_ in found] == [
        *[PromptStatus.REJECTED] * 4,
        PromptStatus.ACCEPTED,
        PromptStatus.REJECTED,
    ]
    assert [reason for _, reason, *_ in found] == [
        RejectReason.TOO_SHORT,
        *[RejectReason.SIMILAR] * 3,
        None,
        RejectReason.SIMILAR,
    ]
    for text, (_, _, key, rouge_l) in list(zip(texts, found, strict=True))[1:5]:
        nearest = reference.nearest(text)
        assert nearest is not None and (nearest.key, nearest.rouge_l) == (key, rouge_l)


def test_the_pool_is_made_once(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    def count(limit: float) -> RougePool:
        made.append(limit)
        return RougePool(limit)

    monkeypatch.setattr(self_instruct, "RougePool", count)
    work = work_of(place)
    for text in ("Plan a walk through an old town.", "Tell a short story about two lost keys."):
        work.commit(replies(work.fetch(0, 1), [text]), 0)
    assert made == [0.7]
