"""Settings that cannot be together are refused where they are read, with those that would work."""

from pathlib import Path

import pytest

from selfreward.config import SETTINGS_FILE, load_settings, parse_settings
from selfreward.config.consistency import ignored
from selfreward.errors import BadInput

PAIRWISE = 'judge.type = "pairwise"\n'
ENDPOINT = 'judge.endpoint.url = "http://127.0.0.1:1"\njudge.endpoint.model = "m"\n'
META = "judge.meta.enabled = true\n"


def objective(name: str) -> str:
    return f'train.objective = "{name}"\n'


REFUSED = {
    "rrhf and a tournament": (
        objective("rrhf") + PAIRWISE + 'judge.pairwise.opponents = "tournament"',
        "line 3: ",
        'judge.pairwise.opponents = "all"',
    ),
    "rrhf and nothing but imported": (
        "pair.imported_share = 1.0\n" + objective("rrhf"),
        "line 1: ",
        "pair.imported_share = 0",
    ),
    "positive and nothing but imported": (
        "pair.imported_share = 1.0\n" + objective("sft_positive"),
        "line 1: ",
        '"dpo", "cdpo"',
    ),
    "cdpo without labels": (objective("cdpo"), "line 1: ", "pair.soft_labels = true"),
    "cdpo with a judge that has none": (
        objective("cdpo") + "pair.soft_labels = true",
        "line 1: ",
        "train.label_smoothing above 0",
    ),
    "cream and an endpoint": (objective("cream") + ENDPOINT, "line 2: ", "without judge.endpoint"),
    "cream and a reward model": (
        objective("cream") + 'judge.type = "reward_model"\njudge.reward_model = "a/b"',
        "line 2: ",
        '"rubric" or "pairwise"',
    ),
    "meta and pairwise": (META + PAIRWISE, "line 2: ", 'judge.type = "rubric"'),
    "meta and direct": (META + 'judge.score = "direct"', "line 2: ", '"sampled" or "expected"'),
    "meta and one judgement": (META + "judge.samples = 1", "line 2: ", "judge.samples to 2"),
    "meta and an endpoint": (META + ENDPOINT, "line 2: ", "Leave judge.endpoint out"),
    "meta and rrhf": (META + objective("rrhf"), "line 2: ", '"cream" or "slic"'),
    "expected scores of an endpoint": (
        ENDPOINT + 'judge.score = "expected"',
        "line 3: ",
        'judge.score = "sampled"',
    ),
    "an endpoint that is to keep to a format": (
        ENDPOINT + "judge.guided = true",
        "line 3: ",
        "judge.guided = false",
    ),
    "a reward model at an endpoint": (
        ENDPOINT + 'judge.type = "reward_model"\njudge.reward_model = "a/b"',
        "line 1: ",
        "leave judge.endpoint out",
    ),
    "a reward model without one": ('judge.type = "reward_model"', "line 1: ", '"R_1"'),
    "an endpoint without a model": (
        'judge.endpoint.url = "http://x"',
        "line 1: ",
        "Set judge.endpoint.model",
    ),
    "a model without an endpoint": (
        'self_instruct.mode = "chat"\nself_instruct.endpoint.model = "m"',
        "line 2: ",
        "Set self_instruct.endpoint.url",
    ),
    "a prompt writer that completes": (
        'self_instruct.endpoint.url = "http://x"\nself_instruct.endpoint.model = "m"',
        "line 1: ",
        'self_instruct.mode = "chat"',
    ),
}


@pytest.mark.parametrize(("text", "place", "works"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_together_is_refused_with_its_line_and_what_works(
    text: str, place: str, works: str
) -> None:
    with pytest.raises(BadInput) as caught:
        parse_settings(text, SETTINGS_FILE)
    assert f"{SETTINGS_FILE} {place}" in caught.value.message
    assert works in caught.value.hint


ACCEPTED = {
    "nothing at all": "",
    "rrhf and all opponents": objective("rrhf") + PAIRWISE,
    "rrhf and a given reward model": objective("rrhf")
    + 'judge.type = "reward_model"\njudge.reward_model = "a/b"',
    "rrhf and expected scores": objective("rrhf") + 'judge.score = "expected"',
    "cdpo and pairwise labels": objective("cdpo") + PAIRWISE + "pair.soft_labels = true",
    "cdpo and one label for all": objective("cdpo") + "train.label_smoothing = 0.1",
    "cream and pairwise": objective("cream") + PAIRWISE,
    "an independent judge": ENDPOINT,
    "meta": META,
    "meta and expected": META + 'judge.score = "expected"\n' + objective("slic"),
    "people's preferences alone": "pair.imported_share = 1.0",
    "a tournament and dpo": PAIRWISE + 'judge.pairwise.opponents = "tournament"',
    "direct RLAIF with pairs from comparisons": objective("rl") + PAIRWISE + 'train.rl.reward = "judge"',
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_works_is_not_refused(text: str) -> None:
    parse_settings(text, SETTINGS_FILE)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        parse_settings(META + PAIRWISE + "judge.samples = 1\n" + objective("rrhf"), SETTINGS_FILE)
    assert len(caught.value.message.splitlines()) == 3 == len(caught.value.hint.splitlines())


def test_an_override_that_contradicts_the_file_is_told_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_text(META)
    with pytest.raises(BadInput) as caught:
        load_settings(tmp_path, ["judge.score=direct"], {})
    assert caught.value.message.startswith("--set judge.score=direct: ")


def test_what_only_the_defaults_contradict_is_told_where_the_other_stands() -> None:
    with pytest.raises(BadInput) as caught:
        parse_settings("\njudge.score = 'direct'\n[judge.meta]\nenabled = true", SETTINGS_FILE)
    assert f"{SETTINGS_FILE} line 2" in caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (objective("rrhf") + 'train.losses = ["ipo"]', "train.losses has no effect"),
        ("train.label_smoothing = 0.1", "it is for robust, exo_pair"),
        (objective("rrhf") + 'pair.rule = "all_pairs"', "pair.rule has no effect"),
        (objective("sft_positive") + "pair.imported_share = 0.5", "pair.imported_share has no effect"),
        ("pair.soft_labels = true", "pair.soft_labels has no effect"),
        ('pair.imported_share = 1.0\npair.rule = "all_pairs"', "pair.rule has no effect"),
        ("train.positive_score = 2.0", "train.positive_score has no effect"),
        ("train.slic.margin = 2.0", "train.slic has no effect"),
        (objective("slic") + 'train.slic.target = "reference"', "chosen is taken"),
        (PAIRWISE + "judge.guided = true", "judge.guided has no effect"),
    ],
)
def test_what_has_no_effect_is_said(text: str, told: str) -> None:
    [said] = ignored(parse_settings(text, SETTINGS_FILE))
    assert told in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        'train.losses = ["robust"]\ntrain.label_smoothing = 0.1',
        objective("slic") + "train.slic.margin = 2.0",
        objective("rrhf") + "train.rrhf_weight = 2.0",
    ],
)
def test_what_has_an_effect_is_not_said(text: str) -> None:
    assert ignored(parse_settings(text, SETTINGS_FILE)) == []
