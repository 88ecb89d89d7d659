"""Settings that contradict each other where `train.objective` is "rl", each of them valid alone."""

import math
from collections.abc import Iterator

from selfreward.config.settings import Settings

MOST_MEMORY = 0.8
"""Share of a GPU that what is served may take: the trainer's weights, moments and activations need some."""
Problem = tuple[tuple[str, ...], str, str]
"""(dotted keys, the one to look at first; what is wrong; the settings that would work)."""


def problems(settings: Settings) -> Iterator[Problem]:
    """Everything that reinforcement learning cannot do under these settings."""
    yield from _batches(settings)
    yield from _lengths(settings)
    yield from _judge(settings)
    yield from _memory(settings)
    yield from _adapters(settings)


def _batches(settings: Settings) -> Iterator[Problem]:
    """A batch is whole groups of answers to one prompt, cut into parts of any size that divides it."""
    train, generations = settings.train, settings.train.rl.generations
    if train.batch_size % generations == 0:
        return
    step = math.lcm(train.micro_batch_size, generations)
    above = math.ceil(train.batch_size / step) * step
    sizes = [size for size in (above - step, above) if size > 0]
    divisors = [number for number in range(2, train.batch_size + 1) if train.batch_size % number == 0]
    remedy = f"Set train.batch_size = {' or '.join(map(str, sizes))}"
    if divisors:
        nearest = min(divisors, key=lambda number: abs(number - generations))
        remedy += f", or train.rl.generations = {nearest}"
    yield (
        ("train.batch_size", "train.rl.generations"),
        f"train.batch_size = {train.batch_size} counts answers here, and is no multiple of "
        f"train.rl.generations = {generations}: each step learns from whole groups of answers to one prompt",
        f"{remedy}.",
    )


def _lengths(settings: Settings) -> Iterator[Problem]:
    train, limit = settings.train, settings.engine.max_model_len
    if train.rl.max_tokens >= train.max_length:
        yield (
            ("train.rl.max_tokens", "train.max_length"),
            f"train.rl.max_tokens = {train.rl.max_tokens} leaves no room for a prompt: prompt and answer may "
            f"have train.max_length = {train.max_length} tokens together",
            f"Set train.rl.max_tokens = {train.max_length // 2}, or train.max_length = "
            f"{2 * train.rl.max_tokens}.",
        )
    if train.rl.reward == "judge" and limit is not None and train.rl.max_tokens >= limit:
        yield (
            ("train.rl.max_tokens", "engine.max_model_len"),
            f"the judge reads at most engine.max_model_len = {limit} tokens, and answers may have "
            f"train.rl.max_tokens = {train.rl.max_tokens}",
            f"Set train.rl.max_tokens = {limit // 4}, or raise engine.max_model_len if the model allows it.",
        )


def _judge(settings: Settings) -> Iterator[Problem]:
    """The reward is a number for one answer, from the probabilities of its scores.

    It is asked for with judge.template and judge.scale. A loop whose candidates are compared in pairs has
    them as well, so judge.type = "pairwise" is no contradiction.
    """
    judge, reward = settings.judge, settings.train.rl.reward
    if reward != "judge":
        return
    if judge.type == "reward_model":
        yield (
            ("judge.type", "train.rl.reward"),
            'with judge.type = "reward_model" the judge is a reward model already',
            'Set train.rl.reward = "reward_model": judge.reward_model then gives the rewards.',
        )
    if judge.endpoint.url:
        yield (
            ("judge.endpoint.url", "train.rl.reward"),
            'train.rl.reward = "judge" takes probabilities of tokens, which an endpoint does not give',
            'Leave judge.endpoint out, or set train.rl.reward = "reward_model", which is trained on what the '
            "endpoint prefers.",
        )


def _memory(settings: Settings) -> Iterator[Problem]:
    rl = settings.train.rl
    served = (rl.reward == "judge") + rl.vllm
    if served * rl.engine_memory > MOST_MEMORY:
        works = math.floor(100 * MOST_MEMORY / served) / 100
        yield (
            ("train.rl.engine_memory",),
            f"train.rl.engine_memory = {rl.engine_memory:g}{', twice,' if served == 2 else ''} leaves too "
            "little of the GPU for the trainer",
            f"Set train.rl.engine_memory = {works / 2:g}, and {works:g} at most.",
        )


def _adapters(settings: Settings) -> Iterator[Problem]:
    lora = settings.train.lora
    if lora.enabled and "lm_head" in lora.target_modules:
        yield (
            ("train.lora.target_modules", "train.objective"),
            'train.objective = "rl" trains no adapter on lm_head: log-probabilities are computed around it',
            'Set train.lora.target_modules = "all-linear", which leaves it out, or other names.',
        )
