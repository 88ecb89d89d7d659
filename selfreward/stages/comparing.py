"""Asking a judge which of two responses is better: by probabilities, after reasoning, or in writing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from selfreward.config import JudgeSettings, SamplingSettings
from selfreward.engines.base import ChatMessage, Engine, NotOneToken, PromptTooLong
from selfreward.judging import parse_verdict
from selfreward.prompting import PromptTemplate, load_template
from selfreward.ranking import share_of_first
from selfreward.types import Choice, JudgementStatus, Verdict

FIELDS = ("prompt", "first", "second")
REASONING = "reasoning"
"""A variable that a template may have: whether the judge is to think in writing first."""
LABEL = "Better response:"
STEM = f"{LABEL} "
"""How a reply begins, or ends, that gives its verdict."""
VERDICTS = ("1", "2")
SURE = {Verdict.FIRST: 1.0, Verdict.SECOND: 0.0}
DECORATION = " \t\n*_#`>"
"""What is left of a label in another's style when the reply ends before it."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One reading of two responses in one order."""

    status: JudgementStatus
    probability_first: float | None = None
    """P(first is better) against P(second is better), 0–1; None unless the status is read."""
    lost_mass: float | None = None
    """Probability of everything but the two verdicts; None where the verdict was written."""
    raw_text: str = ""
    """What the judge wrote, as far as it was asked to."""
    token_count: int = 0


class PairwiseJudge:
    """Compares two responses to a prompt, in the order in which they are given."""

    def __init__(self, directory: Path, settings: JudgeSettings, engine: Engine) -> None:
        self._template = comparison_template(settings.pairwise.template, directory)
        self._settings, self._engine = settings, engine
        self._ask = self._way()

    async def compare(self, prompt: str, first: str, second: str) -> Preference:
        """Which is better. A prompt that is too long is a reading of its own.

        Raises RequestFailed or EngineError as the engine does, and NotOneToken with the settings that
        would work.
        """
        fields: dict[str, object] = {"prompt": prompt, "first": first, "second": second}
        if REASONING in self._template.variables:
            fields[REASONING] = self._settings.pairwise.reasoning
        message: ChatMessage = {"role": "user", "content": self._template.render(**fields)}
        try:
            return await self._ask(message)
        except PromptTooLong:
            return Preference(status=JudgementStatus.TOO_LONG)

    def _way(self) -> Callable[[ChatMessage], Awaitable[Preference]]:
        if self._settings.endpoint.url:
            return self._written
        return self._reasoned if self._settings.pairwise.reasoning else self._chosen

    async def _chosen(self, message: ChatMessage) -> Preference:
        """Softmax over log P("1") and log P("2") right away (arXiv 2309.00267)."""
        return _read(await self._choose(message, STEM))

    async def _reasoned(self, message: ChatMessage) -> Preference:
        """The same after reasoning of its own, which ends before the verdict."""
        [reply] = await self._engine.chat([message], self._settings, 1, stop=(LABEL,))
        thought = reply.text.rstrip(DECORATION)
        choice = await self._choose(message, f"{thought}\n\n{STEM}" if thought else STEM)
        return _read(choice, thought, reply.token_count)

    async def _written(self, message: ChatMessage) -> Preference:
        """What any endpoint can: a verdict in writing. It is drawn only where there is reasoning."""
        drawn: SamplingSettings = self._settings
        if not self._settings.pairwise.reasoning:
            drawn = self._settings.model_copy(update={"temperature": 0.0, "top_p": 1.0})
        [reply] = await self._engine.chat([message], drawn, 1)
        verdict = parse_verdict(reply.text)
        return Preference(
            status=JudgementStatus.READ if verdict else JudgementStatus.UNREADABLE,
            probability_first=SURE[verdict] if verdict else None,
            raw_text=reply.text,
            token_count=reply.token_count,
        )

    async def _choose(self, message: ChatMessage, stem: str) -> Choice:
        try:
            return await self._engine.choose([message], stem, VERDICTS)
        except NotOneToken as error:
            raise NotOneToken(
                f'judge.type = "pairwise" needs "1" and "2" as single tokens: {error.message}',
                'Set judge.type = "rubric" with judge.score = "sampled", which needs no probabilities, or '
                "use a model whose tokenizer has a token for each digit. What is stored stays.",
            ) from error


def comparison_template(name: str, directory: Path) -> PromptTemplate:
    """The template of a comparison. Raises BadInput when its variables are not what a comparison gives.

    Those are prompt, first and second, and reasoning where it asks for that.
    """
    template = load_template(name, directory)
    optional = (REASONING,) if REASONING in template.variables else ()
    return template.require((*FIELDS, *optional))


def _read(choice: Choice, thought: str = "", tokens: int = 0) -> Preference:
    share = share_of_first(choice)
    return Preference(
        status=JudgementStatus.UNREADABLE if share is None else JudgementStatus.READ,
        probability_first=share,
        lost_mass=choice.lost_mass,
        raw_text=thought,
        token_count=tokens + choice.token_count,
    )
