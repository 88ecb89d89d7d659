"""What a run needs beyond settings that agree, looked at before an engine or a trainer is started.

A tokenizer in which each verdict of the judge is one token; a reward model with the head for it. Neither
needs the model: a few files tell. (Settings are compared in `config.consistency`, imported preferences
counted in `stages.mixing`.)
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from selfreward.config import Settings
from selfreward.engines.base import NotOneToken
from selfreward.engines.choosing import Chooser
from selfreward.errors import BadInput
from selfreward.judging import SCALES
from selfreward.stages.comparing import STEM, VERDICTS
from selfreward.stages.reward_models import look_up
from selfreward.stages.workplace import Workplace
from selfreward.training.reward_source import OF_THIS_RUN, parse_reward_source, require_reward_head

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something to which the judge is to answer with one token."""

    setting: str
    """What asks it, as it stands in the settings."""
    stem: str
    """How the reply begins up to there."""
    choices: tuple[str, ...]
    remedy: str
    """The settings that would work."""


def before_run(settings: Settings, directory: Path) -> None:
    """What can be said before there is a model: the named reward model has the head for it."""
    if name := reward_model_named(settings):
        require_reward_model(name, directory)


def before_iteration(place: Workplace) -> None:
    """What M_t and the run's rows must have for its settings. Raises BadInput with those that would work."""
    if OF_THIS_RUN.fullmatch(name := reward_model_named(place.settings)):
        look_up(place, name)
    require_tokens(place.settings, place.model_path)


def reward_model_named(settings: Settings) -> str:
    """The reward model that the settings name and use; empty where they use none, or train it first."""
    train = settings.train
    rewards = train.objective == "rl" and train.rl.reward == "reward_model"
    return settings.judge.reward_model.strip() if rewards or settings.judge.type == "reward_model" else ""


def require_reward_model(name: str, directory: Path) -> None:
    """Raise BadInput for a model that is not there or gives no single number. R_t is looked up later."""
    if OF_THIS_RUN.fullmatch(name):
        return
    source = parse_reward_source(name, directory)
    if source.path is None and (config := _hub_config(name)) is not None:
        require_reward_head(config.parent, name)


def _hub_config(name: str) -> Path | None:
    """config.json of a model of the hub; None where it cannot be had: who fetches the model says why."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        return None
    try:
        return Path(hf_hub_download(name, "config.json"))
    except (OSError, ValueError, HfHubHTTPError):
        return None


def questions(settings: Settings) -> Iterator[Question]:
    """What the judge answers with one token under these settings."""
    judge, train, scale = settings.judge, settings.train, SCALES[settings.judge.scale]
    scores = partial(Question, stem=scale.stem, choices=scale.choices)
    if judge.type == "rubric" and judge.score != "sampled" and not judge.endpoint.url:
        remedy = 'Set judge.score = "sampled"'
        yield scores(setting=f'judge.score = "{judge.score}"', remedy=remedy)
    if judge.type == "pairwise" and not judge.endpoint.url:
        remedy = 'Set judge.type = "rubric" and judge.score = "sampled"'
        yield Question(setting='judge.type = "pairwise"', stem=STEM, choices=VERDICTS, remedy=remedy)
    if train.objective == "rl" and train.rl.reward == "judge":
        remedy = 'Set train.rl.reward = "reward_model" and judge.score = "sampled"'
        yield scores(setting='train.rl.reward = "judge"', remedy=remedy)


def require_tokens(settings: Settings, model: Path) -> None:
    """Raise BadInput unless M_t's tokenizer has one token for each verdict that is asked for as one.

    Nothing is said of a tokenizer that cannot be read here: the engine has the last word.
    """
    asked = list(questions(settings))
    tokenizer = _tokenizer(model) if asked and settings.engine.type != "fake" else None
    if tokenizer is None:
        return
    chooser = Chooser(partial(_tokenize, tokenizer), model.name)
    for question in asked:
        try:
            asyncio.run(chooser.settle(question.stem, question.choices))
        except NotOneToken as error:
            raise BadInput(
                f"{question.setting} needs each of {', '.join(map(repr, question.choices))} to be one token "
                f"of {model.name}: {error.message}",
                f"{question.remedy}, or use a model whose tokenizer has a token for each.",
            ) from None


async def _tokenize(tokenizer: Any, _path: str, body: Mapping[str, Any]) -> dict[str, list[int]]:
    """What a server's /tokenize answers."""
    return {"tokens": tokenizer.encode(body["prompt"], add_special_tokens=False).ids}


def _tokenizer(model: Path) -> Any | None:
    """The tokenizer of a checkpoint, without transformers; None where there is none that reads."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    path = model / TOKENIZER
    try:
        return Tokenizer.from_file(str(path)) if path.is_file() else None
    except Exception:  # the library raises nothing narrower
        return None
