"""What a run needs beyond its settings is looked at before anything starts, and told with what would work."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from selfreward import preflight
from selfreward.config import Settings
from selfreward.errors import BadInput


def settings(**tables: Any) -> Settings:
    return Settings.model_validate(tables)


DIRECT = settings(judge={"score": "direct"})
EXPECTED = settings(judge={"score": "expected"})
YES_NO = settings(judge={"score": "direct", "scale": "yes_no"})
PAIRWISE = settings(judge={"type": "pairwise"})
JUDGED_RL = settings(judge={"type": "pairwise"}, train={"objective": "rl", "rl": {"reward": "judge"}})


def tokenizer(directory: Path, whole: Sequence[str]) -> Path:
    """A model directory whose tokenizer has these words as tokens, and letters besides."""
    letters = [chr(code) for code in range(32, 127)] + ["\n", "Ġ"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(["[UNK]", *letters, *whole]))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges(whole, vocabulary), unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\s|[^\w\s]"), behavior="isolated")
    made.decoder = decoders.Fuse()
    directory.mkdir(parents=True, exist_ok=True)
    made.save(str(directory / "tokenizer.json"))
    return directory


def _merges(words: Sequence[str], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """How letters become the words, beginning by beginning."""
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            vocabulary.setdefault(word[:end], len(vocabulary))
            merges.append((word[: end - 1], word[end - 1]))
    return list(dict.fromkeys(merges))


@pytest.mark.parametrize("wanted", [DIRECT, EXPECTED, YES_NO, PAIRWISE, JUDGED_RL])
def test_a_tokenizer_with_a_token_for_each_verdict_passes(tmp_path: Path, wanted: Settings) -> None:
    preflight.require_tokens(wanted, tokenizer(tmp_path, ["Yes", "No"]))


@pytest.mark.parametrize(
    ("wanted", "setting", "works"),
    [
        (DIRECT, 'judge.score = "direct"', 'judge.score = "sampled"'),
        (EXPECTED, 'judge.score = "expected"', 'judge.score = "sampled"'),
        (PAIRWISE, 'judge.type = "pairwise"', 'judge.type = "rubric"'),
    ],
)
def test_digits_of_several_tokens_are_refused_with_what_works(
    tmp_path: Path, wanted: Settings, setting: str, works: str
) -> None:
    halved = json.loads((tokenizer(tmp_path, []) / "tokenizer.json").read_text())
    halved["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Replace", "pattern": {"String": digit}, "content": f"#{letter}"}
            for digit, letter in zip("012345", "abcdef", strict=True)
        ],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(halved))
    with pytest.raises(BadInput) as caught:
        preflight.require_tokens(wanted, tmp_path)
    assert setting in caught.value.message and "2 tokens" in caught.value.message
    assert works in caught.value.hint


def test_words_of_several_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        preflight.require_tokens(YES_NO, tokenizer(tmp_path, ["Yes"]))
    assert "'No' is 2 tokens" in caught.value.message and "'Yes', to be" not in caught.value.message


def test_a_reward_that_is_the_judges_is_asked_about_whatever_the_loops_judge(tmp_path: Path) -> None:
    yes_no = JUDGED_RL.model_copy(update={"judge": JUDGED_RL.judge.model_copy(update={"scale": "yes_no"})})
    with pytest.raises(BadInput) as caught:
        preflight.require_tokens(yes_no, tokenizer(tmp_path, []))
    assert 'train.rl.reward = "judge"' in caught.value.message
    assert 'train.rl.reward = "reward_model"' in caught.value.hint


@pytest.mark.parametrize(
    "wanted",
    [
        settings(),
        settings(judge={"score": "direct", "scale": "yes_no"}, engine={"type": "fake"}),
        settings(
            judge={"type": "pairwise", "scale": "yes_no", "endpoint": {"url": "http://x", "model": "m"}}
        ),
    ],
)
def test_what_asks_for_no_token_of_the_model_is_not_held_up(tmp_path: Path, wanted: Settings) -> None:
    preflight.require_tokens(wanted, tokenizer(tmp_path, []))


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_a_tokenizer_that_does_not_read_is_left_to_the_engine(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    preflight.require_tokens(YES_NO, tmp_path)


def model(directory: Path, config: dict[str, Any]) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(b"")
    return directory


CLASSIFIER = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}


def scored_by(name: str) -> Settings:
    return settings(judge={"type": "reward_model", "reward_model": name})


def test_a_sequence_classifier_with_one_label_is_a_reward_model(tmp_path: Path) -> None:
    model(tmp_path / "reward", CLASSIFIER)
    preflight.before_run(scored_by("reward"), tmp_path)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM"),
        (CLASSIFIER | {"id2label": {"0": "a", "1": "b", "2": "c"}}, "3 labels"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "2 labels"),
    ],
)
def test_a_wrong_head_is_refused_before_anything_starts(
    tmp_path: Path, config: dict[str, Any], told: str
) -> None:
    model(tmp_path / "reward", config)
    for wanted in (scored_by("reward"), rewarded_by("reward")):
        with pytest.raises(BadInput) as caught:
            preflight.before_run(wanted, tmp_path)
        assert told in caught.value.message and "num_labels = 1" in caught.value.hint


def rewarded_by(name: str) -> Settings:
    return settings(judge={"reward_model": name}, train={"objective": "rl"})


def test_a_reward_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"judge\.reward_model"):
        preflight.before_run(scored_by("./nowhere"), tmp_path)


def test_a_reward_model_of_the_hub_is_refused_by_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    fetched = model(tmp_path / "fetched", {"architectures": ["LlamaForCausalLM"]}) / "config.json"
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda name, file: str(fetched))
    with pytest.raises(BadInput, match="org/name is no reward model"):
        preflight.before_run(scored_by("org/name"), tmp_path)


def test_a_hub_that_cannot_be_reached_is_left_to_the_fetching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def unreachable(name: str, file: str) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    preflight.before_run(scored_by("org/name"), tmp_path)


@pytest.mark.parametrize("wanted", [settings(), settings(judge={"reward_model": "./nowhere"})])
def test_a_reward_model_that_is_not_used_is_not_looked_at(tmp_path: Path, wanted: Settings) -> None:
    preflight.before_run(wanted, tmp_path)
