"""What an answer is worth to reinforcement learning: a reward model's number, or the frozen judge's.

The judge is asked as in direct RLAIF (arXiv 2309.00267): the expected score Σ s·P(s) of a reply that gives
its score right away, whatever `judge.score` says: a justification for each answer of each step would
take longer than all the rest. Its 0–5 become −1–1. Runs in the child only.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from selfreward.engines.base import ChatMessage, EngineDied, PromptTooLong, RequestFailed
from selfreward.engines.client import EngineClient
from selfreward.errors import EngineError
from selfreward.judging import MAX_SCORE, SCALES, expected_score
from selfreward.prompting import parse_template
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import RlJob

REQUEST_TIMEOUT_S = 600.0
MOST_REQUESTS = 256
"""Judgements that are asked for at once; the server has a queue of its own."""
Conversation = Sequence[dict[str, str]]


class Reward(Protocol):
    """What TRL calls for a batch. None: there is no reward, the answer is not learnt from."""

    def __call__(
        self, prompts: Sequence[Conversation], completions: Sequence[Conversation], **more: Any
    ) -> list[float | None]: ...


def reward_of(job: RlJob) -> "JudgeReward | ModelReward":
    """The reward that the job names."""
    return ModelReward(job) if job.reward_model is not None else JudgeReward(job)


class ModelReward:
    """The reward model's number for prompt and answer; none for what is longer than its context."""

    __name__ = "reward_model"

    def __init__(self, job: RlJob) -> None:
        from selfreward.training.reward_scoring import load_reward_model  # the judge takes no torch

        assert job.reward_model is not None
        self._name = job.reward_model
        self._model = load_reward_model(job.reward_model, job.model, job.settings.micro_batch_size)

    def __call__(
        self, prompts: Sequence[Conversation], completions: Sequence[Conversation], **more: Any
    ) -> list[float | None]:
        asked = [(_text(prompt), _text(answer)) for prompt, answer in zip(prompts, completions, strict=True)]
        scored = self._model.score(asked)
        if any(each.reward is None and each.fits for each in scored):
            raise JobFailed("non_finite", f"the reward model {self._name} gives a reward that is not finite")
        return [each.reward for each in scored]


class JudgeReward:
    """The judge's expected score on [−1, 1], asked for through the engine, all of a batch at once.

    An answer whose judgement cannot be read, is too long for the judge, or fails though others do not, has
    no reward: TRL leaves it out of its group's baseline and of the gradient. `unrewarded` is their share.
    """

    __name__ = "judge"

    def __init__(self, job: RlJob) -> None:
        assert job.judge is not None
        self._template = parse_template(job.judge.template, job.template)
        self._scale = SCALES[job.judge.scale]
        self._engine = EngineClient(
            url=job.judge_url,
            model=job.judge_model,
            seed=0,
            description=f"the judge at {job.judge_url}",
            request_timeout_s=REQUEST_TIMEOUT_S,
            concurrency=MOST_REQUESTS,
            post_mortem=lambda cause: EngineDied(f"the judge's engine {cause}"),
        )
        self._slots = asyncio.Semaphore(MOST_REQUESTS)
        self._runner = asyncio.Runner()
        self._has_rewarded = False

    def __call__(
        self,
        prompts: Sequence[Conversation],
        completions: Sequence[Conversation],
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **more: Any,
    ) -> list[float | None]:
        asked = [(_text(prompt), _text(answer)) for prompt, answer in zip(prompts, completions, strict=True)]
        try:
            scores = self._runner.run(self._judge_all(asked))
        except EngineError as error:
            raise JobFailed("engine", error.message, error.hint) from error
        log_metric("unrewarded", scores.count(None) / len(scores))
        self._require_some(scores)
        return [None if score is None else 2 * score / MAX_SCORE - 1 for score in scores]

    async def _judge_all(self, asked: Sequence[tuple[str, str]]) -> list[float | None]:
        return await asyncio.gather(*(self._judge(prompt, answer) for prompt, answer in asked))

    async def _judge(self, prompt: str, answer: str) -> float | None:
        """0–5, or None. Raises NotOneToken, for nothing then can be judged, and EngineError."""
        text = self._template.render(prompt=prompt, response=answer)
        message: ChatMessage = {"role": "user", "content": text}
        try:
            async with self._slots:
                choice = await self._engine.choose([message], self._scale.stem, self._scale.choices)
        except (PromptTooLong, RequestFailed):
            return None
        return expected_score(self._scale.spread(choice))

    def _require_some(self, scores: Sequence[float | None]) -> None:
        """A judge that cannot read the first batch will not teach anything."""
        self._has_rewarded = self._has_rewarded or any(score is not None for score in scores)
        if not self._has_rewarded:
            raise JobFailed(
                "no_reward",
                f"the judge gives none of the first {len(scores)} answers a score that can be read",
                'Try judge.scale = "yes_no", another judge.template, or a larger model; or train a reward '
                'model: train.rl.reward = "reward_model".',
            )


def _text(conversation: Conversation) -> str:
    """What is said in its one turn."""
    return conversation[-1]["content"]
