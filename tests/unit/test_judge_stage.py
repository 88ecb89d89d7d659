"""Judging one response K times: the three ways to a number, and what is stored when there is none."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from selfreward.config import JudgeSettings, SamplingSettings
from selfreward.engines.base import ChatMessage, Engine, NotOneToken, PromptTooLong
from selfreward.errors import BadInput
from selfreward.judging import parse_verdict
from selfreward.prompting import load_template
from selfreward.stages.judge import Reading, RubricJudge, rubric
from selfreward.types import Choice, Completion, JudgementStatus

SURE = Choice(probabilities=(0.0, 0.0, 0.0, 0.25, 0.25, 0.0))


class Scripted:
    """An engine that says what it is told to, and remembers what it was asked."""

    def __init__(
        self, *texts: str, choice: Choice = SURE, odd: tuple[str, ...] = (), limit: int = 10**9
    ) -> None:
        self.texts, self.choice, self.odd, self.limit = list(texts), choice, odd, limit
        self.stems: list[str] = []
        self.prompts: list[str] = []

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        sampling: SamplingSettings,
        n: int,
        regex: str | None = None,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        self._see(messages)
        texts, self.texts = self.texts[:n], self.texts[n:]
        return [Completion(text=t, finish_reason="stop", token_count=9, mean_logprob=-1.0) for t in texts]

    async def choose(self, messages: Sequence[ChatMessage], stem: str, choices: Sequence[str]) -> Choice:
        self._see(messages)
        assert list(choices) in (list("012345"), ["No", "Yes"])
        self.stems.append(stem)
        if stem.endswith(self.odd):
            raise NotOneToken("'0' is 2 tokens")
        return self.choice

    def _see(self, messages: Sequence[ChatMessage]) -> None:
        text = messages[-1]["content"]
        self.prompts.append(text)
        if len(text) > self.limit:
            raise PromptTooLong("too long")


def judged(engine: Scripted, samples: Sequence[int] = (0,), **settings: Any) -> list[Reading]:
    """What the judge makes of one response."""
    chosen = JudgeSettings.model_validate(settings)
    judge = RubricJudge(rubric(chosen, Path()), chosen, cast("Engine", engine))
    return asyncio.run(judge.judge("Name a colour.", "Blue.", samples))


def test_a_sampled_score_is_the_number_that_was_written() -> None:
    engine = Scripted("It is a colour.\nScore: 4", "No idea.")
    first, second = judged(engine, (1, 2))
    assert (first.sample, first.status, first.score) == (1, JudgementStatus.READ, 4)
    assert (second.sample, second.status, second.score) == (2, JudgementStatus.UNREADABLE, None)
    assert first.probabilities is None
    assert engine.stems == []
    assert "Name a colour." in engine.prompts[0]
    assert "<response>\nBlue.\n</response>" in engine.prompts[0]


def test_an_expected_score_is_asked_for_where_the_number_was_written() -> None:
    engine = Scripted("It is a colour.\n**Score:** 5/5", "No idea.", "It is short.\nScore: 9")
    readings = judged(engine, (0, 1, 2), score="expected")
    assert [reading.status for reading in readings] == [
        JudgementStatus.READ,
        JudgementStatus.UNREADABLE,
        JudgementStatus.OUT_OF_RANGE,
    ]
    assert [reading.score for reading in readings] == [3.5, None, None]
    assert readings[0].probabilities == SURE.probabilities
    assert readings[0].raw_text == "It is a colour.\n**Score:** 5/5"
    assert readings[1].probabilities is None
    assert engine.stems == ["It is a colour.\n**Score:** "]


def test_an_odd_label_is_written_out_anew() -> None:
    engine = Scripted("Fine. {'score':4}", odd=("'score':",))
    assert judged(engine, score="expected")[0].score == 3.5
    assert engine.stems == ["Fine. {'score':", "Fine. {'score':\nScore: "]


def test_a_tokenizer_that_is_not_fit_for_it_is_told_to_the_user() -> None:
    with pytest.raises(NotOneToken):
        judged(Scripted("Fine.\nScore: 4", odd=("Score: ",)), score="expected")
    with pytest.raises(NotOneToken):
        judged(Scripted(odd=("Score: ",)), score="direct")


def test_a_direct_score_is_asked_for_without_a_justification() -> None:
    engine = Scripted()
    (reading,) = judged(engine, score="direct")
    assert engine.stems == ["Score: "]
    assert (reading.status, reading.score, reading.raw_text) == (JudgementStatus.READ, 3.5, "Score: 3.50")
    assert reading.probabilities == SURE.probabilities
    assert reading.token_count == 1


def test_a_yes_counts_five_and_what_is_neither_is_unreadable() -> None:
    engine = Scripted("Yes.", "No, it does not.", "Maybe.")
    readings = judged(engine, (0, 1, 2), scale="yes_no", template="judge_yes_no.jinja")
    assert [reading.score for reading in readings] == [5, 0, None]
    assert "Request: Name a colour.\n\nResponse: Blue.\n" in engine.prompts[0]


@pytest.mark.parametrize(("score", "stems"), [("expected", ["**"]), ("direct", [""])])
def test_between_yes_and_no_lies_the_share_of_yes(score: str, stems: list[str]) -> None:
    engine = Scripted("**Yes**", choice=Choice(probabilities=(0.2, 0.6)))
    (reading,) = judged(engine, scale="yes_no", template="judge_yes_no.jinja", score=score)
    assert reading.score == pytest.approx(5 * 0.6 / 0.8)
    assert reading.probabilities == (0.2, 0, 0, 0, 0, 0.6)
    assert engine.stems == stems


@pytest.mark.parametrize("score", ["expected", "direct"])
def test_a_judge_that_means_no_score_is_unreadable(score: str) -> None:
    engine = Scripted("Fine.\nScore: 4", choice=Choice(probabilities=(0.001,) * 6))
    (reading,) = judged(engine, score=score)
    assert (reading.status, reading.score) == (JudgementStatus.UNREADABLE, None)
    assert reading.probabilities == (0.001,) * 6


@pytest.mark.parametrize("score", ["sampled", "expected", "direct"])
def test_what_does_not_fit_the_context_is_said_to_be_too_long(score: str) -> None:
    readings = judged(Scripted("Score: 4", limit=10), (0, 2), score=score)
    assert [(r.sample, r.status, r.score) for r in readings] == [
        (0, JudgementStatus.TOO_LONG, None),
        (2, JudgementStatus.TOO_LONG, None),
    ]


def test_asking_again_would_give_the_same() -> None:
    assert JudgeSettings(samples=4).wanted == 4
    assert JudgeSettings(samples=4, score="expected").wanted == 4
    assert JudgeSettings(samples=4, score="direct").wanted == 1


def test_a_template_without_the_response_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("Judge {{ prompt }}")
    with pytest.raises(BadInput, match=r"has no \{\{ response"):
        rubric(JudgeSettings(template="mine.jinja"), tmp_path)


def test_the_comparison_shows_both_responses_and_says_nothing_that_is_a_verdict() -> None:
    template = load_template("compare.jinja", Path()).require(("prompt", "first", "second"))
    text = template.render(prompt="Name a colour.", first="{{ Blue }}", second="Ten.")
    assert "<response_1>\n{{ Blue }}\n</response_1>" in text
    assert "<response_2>\nTen.\n</response_2>" in text
    assert parse_verdict(text) is None, "an echo of the question is not an answer"
    assert "Better response: " in text
