"""Settings that reinforcement learning cannot do are refused, and what is said to work does."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.config import Settings
from selfreward.config.reinforcement import problems


def settings(train: dict[str, Any], **tables: Any) -> Settings:
    return Settings.model_validate({"train": {"objective": "rl"} | train} | tables)


def found(chosen: Settings) -> list[tuple[str, str]]:
    """(the first key, the remedy) of all that is refused."""
    return [(keys[0], remedy) for keys, _, remedy in problems(chosen)]


@given(parts=st.integers(1, 6), micro=st.integers(1, 12), generations=st.integers(2, 12))
def test_a_batch_is_whole_groups_or_is_refused_with_sizes_that_are(
    parts: int, micro: int, generations: int
) -> None:
    train = {"batch_size": parts * micro, "micro_batch_size": micro, "rl": {"generations": generations}}
    refused = found(settings(train))
    assert bool(refused) == bool(parts * micro % generations)
    for _, remedy in refused:
        sizes, _, others = remedy.partition("generations = ")
        for size in map(int, re.findall(r"\d+", sizes)):
            assert found(settings(train | {"batch_size": size})) == [], remedy
        for number in map(int, re.findall(r"\d+", others)):
            assert found(settings(train | {"rl": {"generations": number}})) == [], remedy


JUDGED = {"rl": {"reward": "judge"}}


@pytest.mark.parametrize(
    ("train", "tables", "key", "remedy"),
    [
        ({"max_length": 256}, {}, "train.rl.max_tokens", "train.rl.max_tokens = 128"),
        (JUDGED, {"engine": {"max_model_len": 200}}, "train.rl.max_tokens", "train.rl.max_tokens = 50"),
        (JUDGED, {"judge": {"type": "reward_model"}}, "judge.type", 'reward = "reward_model"'),
        (
            JUDGED,
            {"judge": {"endpoint": {"url": "http://judge", "model": "big"}}},
            "judge.endpoint.url",
            "Leave judge.endpoint out",
        ),
        (
            {"rl": {"reward": "judge", "vllm": True, "engine_memory": 0.5}},
            {},
            "train.rl.engine_memory",
            "0.4 at most",
        ),
        (
            {"lora": {"enabled": True, "target_modules": "q_proj, lm_head"}},
            {},
            "train.lora.target_modules",
            '"all-linear"',
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    train: dict[str, Any], tables: dict[str, Any], key: str, remedy: str
) -> None:
    [(first, said)] = found(settings(train, **tables))
    assert first == key
    assert remedy in said


def test_the_defaults_go_together() -> None:
    for reward in ("judge", "reward_model"):
        assert found(settings({"rl": {"reward": reward}})) == []
