"""Judging two by two: what is asked and stored, what is left of it after a stop, and what cannot be had."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copy
from typing import Any, cast

import pytest
from sqlalchemy import select, update

from selfreward.config import SamplingSettings, Settings
from selfreward.engines.base import (
    ChatMessage,
    Engine,
    EngineDied,
    NotOneToken,
    PromptTooLong,
    RequestFailed,
)
from selfreward.engines.fake_replies import compared
from selfreward.errors import BadInput
from selfreward.stages.comparing import STEM, comparison_template
from selfreward.stages.evaluate import judge_settings
from selfreward.stages.judge import judge_id, judge_work
from selfreward.stages.pump import Pump, run_together
from selfreward.stages.workplace import Workplace
from selfreward.store import Store
from selfreward.store.schema import Candidate, CandidateComparison, Judge, Judgement, JudgementTally
from selfreward.types import Choice, Completion, StageName
from tests.conftest import Filled

FIRST_BIAS = 0.1
"""How much likelier "1" is than the texts alone would have it."""
OLD_DIGESTS = {
    "5bfafca242ef803dc144acf42197c76683b9e4c9a77d794423850f28422eea3d": {},
    "aaa81e8a72f0dba2798464e070900ecda404a6a830f06e3b665b535d50f8fc79": {
        "score": "expected",
        "scale": "yes_no",
        "guided": True,
        "temperature": 0.5,
        "top_k": 40,
    },
}
"""Judges as they were stored before there was any other type than the rubric, with their settings."""


class Silent:
    """A reporter that nobody reads."""

    def begin(self, *_: Any) -> None: ...
    def progress(self, *_: Any, **__: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def say(self, *_: Any, **__: Any) -> None: ...


class Weighing:
    """An engine that prefers the text with the greater number at its end, a little more if it is first."""

    def __init__(
        self, *, dies_after: int = 10**9, fault: type[Exception] | None = None, on: str = ""
    ) -> None:
        self.asked: list[tuple[str, str]] = []
        self.stems: list[str] = []
        self.stops: list[Sequence[str]] = []
        self.reply = "The first is clear.\n**"
        self._dies_after, self._fault, self._on = dies_after, fault, on

    async def choose(self, messages: Sequence[ChatMessage], stem: str, choices: Sequence[str]) -> Choice:
        assert list(choices) == ["1", "2"]
        first, second = self._seen(messages)
        self.stems.append(stem)
        lead = min(0.3, max(-0.3, (_worth(first) - _worth(second)) / 10)) + FIRST_BIAS
        return Choice(probabilities=(0.9 * (0.5 + lead), 0.9 * (0.5 - lead)))

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        sampling: SamplingSettings,
        n: int,
        regex: str | None = None,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        self._seen(messages)
        self.stops.append(stop)
        return [Completion(text=self.reply, finish_reason="stop", token_count=6, mean_logprob=None)]

    def _seen(self, messages: Sequence[ChatMessage]) -> tuple[str, str]:
        pair = compared(messages[-1]["content"])
        assert pair is not None
        if self._fault is not None and self._on in pair[0]:
            raise self._fault("as told")
        if len(self.asked) >= self._dies_after:
            raise EngineDied("gone, as told")
        self.asked.append(pair)
        return pair


def _worth(text: str) -> int:
    return int(text.rpartition(" ")[2])


@pytest.fixture
def filled(sqlite_template: Path, tmp_path: Path) -> Iterator[Filled]:
    copy(sqlite_template, tmp_path / "selfreward.db")
    store = Store(f"sqlite:///{tmp_path / 'selfreward.db'}", tmp_path)
    yield Filled(store)
    store.close()


def place_of(filled: Filled, directory: Path, **judge: Any) -> Workplace:
    settings = {
        "judge": {"type": "pairwise", **judge},
        "daemon": {"commit_seconds": 0.01, "commit_rows": 5, "max_attempts": 2, "grace_s": 1},
        "engine": {"concurrency": 3},
    }
    return Workplace(
        directory=directory,
        store=filled.store,
        settings=Settings.model_validate(settings),
        run=filled.run,
        iteration=filled.iteration,
        checkpoint=filled.checkpoint,
        fence=1,
        reporter=Silent(),
        stop=asyncio.Event(),
    )


def judge(place: Workplace, engine: Weighing, name: StageName = StageName.JUDGE) -> str:
    """Run the stage to its end; returns how it says it ended."""

    async def session() -> None:
        stage = place.store.runs.begin_stage(place.iteration.id, name)
        await run_together([Pump(place, stage, judge_work(place, stage, cast("Engine", engine), None))])

    asyncio.run(session())
    return next(row.detail for row in place.store.runs.stages(place.iteration.id) if row.name is name)


def rows(place: Workplace, *columns: Any) -> list[tuple[Any, ...]]:
    with place.store.database.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(columns[0]))]


def scored(place: Workplace) -> dict[int, float | None]:
    mine = rows(place, Judgement.candidate_id, Judgement.score, Judgement.judge_id)
    return {candidate: score for candidate, score, judge in mine if judge == judge_id(place)}


def fill(filled: Filled, *prompts: Sequence[str]) -> None:
    """Prompts with answers; ids of candidates count from 1."""
    for number, texts in enumerate(prompts, start=1):
        prompt = filled.prompt(f"Prompt number {number}.", draw=number)
        filled.candidates(prompt, [f"{text} of {number}: {text}" for text in texts])


def test_every_two_are_compared_in_both_orders_and_scored(filled: Filled, tmp_path: Path) -> None:
    fill(filled, "1234", "4444")
    place, engine = place_of(filled, tmp_path), Weighing()
    detail = judge(place, engine)
    assert len(engine.asked) == 24 == len(rows(place, CandidateComparison.id))
    # A lead of 0.1 a point; the bias goes away in the average of the orders.
    assert [scored(place)[id] for id in range(1, 5)] == pytest.approx(
        [5 * rate for rate in (0.3, 1.3 / 3, 1.7 / 3, 0.7)]
    )
    assert [scored(place)[id] for id in range(5, 9)] == pytest.approx([2.5] * 4)
    # Eight of the twelve couples are led by less than the bias: then the first place wins both times.
    assert (
        detail
        == "8 judgements from 24 comparisons, mean score 2.50; 50% of the verdicts change with the order"
    )
    assert place.store.runs.judge(place.iteration.id) == judge_id(place)
    tally = rows(place, JudgementTally.judge_id, JudgementTally.judgements)
    assert sum(count for judge, count in tally if judge == judge_id(place)) == 8


def test_a_couple_keeps_what_was_said_of_each_order(filled: Filled, tmp_path: Path) -> None:
    fill(filled, "13")
    place = place_of(filled, tmp_path)
    place = replace(
        place,
        settings=place.settings.model_copy(
            update={"sample": place.settings.sample.model_copy(update={"candidates": 2})}
        ),
    )
    judge(place, Weighing())
    table = CandidateComparison
    found = rows(
        place, table.first_id, table.second_id, table.probability_first, table.lost_mass, table.status
    )
    assert found == [
        (1, 2, pytest.approx(0.4), pytest.approx(0.1), "read"),
        (2, 1, pytest.approx(0.8), pytest.approx(0.1), "read"),
    ]
    texts = dict(rows(place, Judgement.candidate_id, Judgement.raw_text))
    assert texts[2] == "Compared with 1 other response: better with a probability of 0.70 on average."


def test_a_tournament_asks_for_one_couple_less_than_there_are_candidates(
    filled: Filled, tmp_path: Path
) -> None:
    fill(filled, "4123")
    pairwise = {"opponents": "tournament", "strength": "bradley_terry"}
    place, engine = place_of(filled, tmp_path, pairwise=pairwise), Weighing()
    judge(place, engine)
    assert len(engine.asked) == 6
    found = scored(place)
    assert max(found, key=lambda key: found[key] or 0) == 1


def test_what_was_asked_before_an_engine_died_is_not_asked_again(filled: Filled, tmp_path: Path) -> None:
    fill(filled, "1234", "4321", "1423")
    asked: Counter[tuple[str, str]] = Counter()
    place = place_of(filled, tmp_path)
    for dies_after in (7, 7, 7):
        engine = Weighing(dies_after=dies_after)
        with pytest.raises(EngineDied):
            judge(place, engine)
        asked.update(engine.asked)
        assert len(rows(place, CandidateComparison.id)) == asked.total(), "all of it is stored"
        assert place.load.rows >= asked.total(), "and counts as something done"
    last = Weighing()
    judge(place, last)
    asked.update(last.asked)
    assert asked.total() == len(asked) == 36
    assert len(scored(place)) == 12


def test_a_commit_that_breaks_off_leaves_judgements_only_with_their_comparisons(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(filled, "1234")
    place, engine = place_of(filled, tmp_path), Weighing()

    def breaks(*_: Any) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr("selfreward.store.comparisons.add_judgements", breaks)
        with pytest.raises(RuntimeError):
            judge(place, engine)
    assert scored(place) == {}
    again = Weighing()
    judge(place, again)
    assert len(scored(place)) == 4
    assert len(rows(place, CandidateComparison.id)) == 12


def test_a_prompt_is_judged_when_all_its_candidates_are_in_and_none_is_passed_over(
    filled: Filled, tmp_path: Path
) -> None:
    early, late = (filled.prompt(f"Prompt {number}.", draw=number) for number in (1, 2))
    filled.candidates(early, ["a 1", "b 2"])
    filled.candidates(late, ["c 1", "d 2", "e 3", "f 4"])
    place = place_of(filled, tmp_path)
    find = place.store.comparisons.unsettled
    (first,) = find(place.iteration.id, judge_id(place), 4, 0, 9)
    assert (first.prompt_id, list(first.texts)) == (late, [3, 4, 5, 6])
    filled.candidates(early, ["g 3", "h 4"], first=2)
    (second,) = find(place.iteration.id, judge_id(place), 4, first.id, 9)
    assert (second.prompt_id, list(second.texts)) == (early, [1, 2, 7, 8])


def test_candidates_without_text_take_no_part_and_one_alone_is_not_judged(
    filled: Filled, tmp_path: Path
) -> None:
    fill(filled, "1234", "1234")
    with filled.store.database.write() as connection:
        connection.execute(update(Candidate).where(Candidate.id.in_((2, 6, 7))).values(status="empty"))
        connection.execute(update(Candidate).where(Candidate.id == 8).values(status="failed"))
    place, engine = place_of(filled, tmp_path), Weighing()
    judge(place, engine)
    assert len(engine.asked) == 6
    assert sorted(scored(place)) == [1, 3, 4]


def test_a_comparison_that_always_fails_is_given_up_and_the_rest_counts(
    filled: Filled, tmp_path: Path
) -> None:
    fill(filled, "1234")
    place = place_of(filled, tmp_path)
    engine = Weighing(fault=RequestFailed, on="4 of 1")
    judge(place, engine)
    assert len(engine.asked) == 9, "what was had is not asked for again"
    statuses = Counter(
        status for _, status in rows(place, CandidateComparison.id, CandidateComparison.status)
    )
    assert statuses == {"read": 9, "failed": 3}
    assert scored(place)[4] is None, "one order alone says nothing"
    assert scored(place)[3] == pytest.approx(5 * (0.7 + 0.6) / 2)
    assert ("failed",) in [row[1:] for row in rows(place, Judgement.candidate_id, Judgement.status)]


@pytest.mark.parametrize("opponents", ["all", "tournament"])
def test_what_does_not_fit_the_context_is_said_to_be_too_long(
    filled: Filled, tmp_path: Path, opponents: str
) -> None:
    fill(filled, "1234")
    place = place_of(filled, tmp_path, pairwise={"opponents": opponents})
    judge(place, Weighing(fault=PromptTooLong))
    assert {row[1] for row in rows(place, Judgement.candidate_id, Judgement.status)} == {"too_long"}
    assert set(scored(place).values()) == {None}


def test_a_tokenizer_that_is_not_fit_for_it_is_told_with_what_would_work(
    filled: Filled, tmp_path: Path
) -> None:
    fill(filled, "1234")
    with pytest.raises(NotOneToken, match=r"\"1\" and \"2\" as single tokens") as told:
        judge(place_of(filled, tmp_path), Weighing(fault=NotOneToken))
    assert 'judge.type = "rubric" with judge.score = "sampled"' in told.value.hint


def test_a_judge_that_reasons_is_asked_after_its_own_words(filled: Filled, tmp_path: Path) -> None:
    fill(filled, "1234")
    place, engine = place_of(filled, tmp_path, pairwise={"reasoning": True}), Weighing()
    judge(place, engine)
    assert set(engine.stops) == {("Better response:",)}
    assert set(engine.stems) == {f"The first is clear.\n\n{STEM}"}
    table = CandidateComparison
    assert {row[1:] for row in rows(place, table.id, table.raw_text, table.token_count)} == {
        ("The first is clear.", 7)
    }


def test_an_endpoint_writes_its_verdict_and_is_a_judge_without_a_checkpoint(
    filled: Filled, tmp_path: Path
) -> None:
    fill(filled, "1234")
    endpoint = {"url": "http://localhost:1", "model": "big", "api_key_env": "KEY"}
    place, engine = place_of(filled, tmp_path, endpoint=endpoint), Weighing()
    engine.reply = "Better response: 1"
    judge(place, engine)
    assert engine.stems == []
    assert set(scored(place).values()) == {2.5}, "the first place always wins"
    table = CandidateComparison
    assert {row[1:] for row in rows(place, table.id, table.probability_first, table.lost_mass)} == {
        (1.0, None)
    }
    (found,) = [
        row
        for row in rows(place, Judge.id, Judge.checkpoint_id, Judge.type, Judge.parameters)
        if row[0] == judge_id(place)
    ]
    assert found[1:3] == (None, "pairwise")
    assert found[3]["endpoint"] == {"url": "http://localhost:1", "model": "big"}, "and no key"


def test_anchors_are_compared_with_the_models_own_answers(filled: Filled, tmp_path: Path) -> None:
    fill(filled, "1234")
    place = place_of(filled, tmp_path)
    judge(place, Weighing())
    before = scored(place)
    filled.candidates(1, ["an anchor 0"], first=4)
    with filled.store.database.write() as connection:
        connection.execute(
            update(Candidate).where(Candidate.id == 5).values(checkpoint_id=filled.checkpoint.id)
        )
    anchored = Weighing()
    judge(place, anchored, StageName.JUDGE_ANCHOR)
    assert len(anchored.asked) == 8
    assert scored(place) == {**before, 5: pytest.approx(5 * (0.4 + 0.3 + 0.2 + 0.2) / 4)}


@pytest.mark.parametrize(("digest", "settings"), OLD_DIGESTS.items(), ids=["usual", "other"])
def test_judges_by_the_rubric_are_the_rows_they_always_were(
    filled: Filled, tmp_path: Path, digest: str, settings: dict[str, Any]
) -> None:
    (tmp_path / "mine.jinja").write_text("{{ prompt }} {{ response }}")
    place = place_of(filled, tmp_path, type="rubric", template="mine.jinja", **settings)
    found = judge_id(place)
    assert dict(rows(place, Judge.digest, Judge.id))[digest] == found


def test_two_ways_of_comparing_are_two_judges(filled: Filled, tmp_path: Path) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"pairwise": {"opponents": "tournament"}},
        {"pairwise": {"strength": "bradley_terry"}},
        {"pairwise": {"reasoning": True}},
        {"pairwise": {"reasoning": True}, "temperature": 0.1},
        {"endpoint": {"url": "http://localhost:1", "model": "big"}},
        {"endpoint": {"url": "http://localhost:1", "model": "bigger"}},
    ]
    assert len({judge_id(place_of(filled, tmp_path, **way)) for way in ways}) == len(ways)
    same = [{}, {"temperature": 0.1, "samples": 9, "score": "direct"}]
    assert len({judge_id(place_of(filled, tmp_path, **way)) for way in same}) == 1


def test_a_model_is_measured_by_its_own_rubric_whoever_judges_its_candidates(
    filled: Filled, tmp_path: Path
) -> None:
    another = place_of(filled, tmp_path, endpoint={"url": "http://localhost:1", "model": "big"})
    own = place_of(filled, tmp_path, type="rubric")
    assert judge_id(another, judge_settings(another)) == judge_id(own, judge_settings(own)) == judge_id(own)


def test_a_template_of_a_comparison_may_ask_for_reasoning_and_must_show_both(tmp_path: Path) -> None:
    template = comparison_template("judge_pairwise.jinja", tmp_path)
    asks = [template.render(prompt="P", first="F", second="S", reasoning=wanted) for wanted in (True, False)]
    assert ["strengths" in text for text in asks] == [True, False]
    (tmp_path / "mine.jinja").write_text("{{ prompt }} {{ first }}")
    with pytest.raises(BadInput, match=r"has no \{\{ second"):
        comparison_template("mine.jinja", tmp_path)
