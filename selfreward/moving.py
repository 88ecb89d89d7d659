"""A run's settings for another directory: every relative path in them means the same file as before."""

import os
from pathlib import Path
from typing import TypeVar

from sqlalchemy import make_url

from selfreward.config import JudgeSettings, MetaSettings, PairwiseSettings, Settings
from selfreward.seeds.hub import PREFIX
from selfreward.seeds.reader import BUILTIN

S = TypeVar("S", JudgeSettings, PairwiseSettings, MetaSettings)
"""What has a template."""


def moved(settings: Settings, old: Path, new: Path, name: str, least: int) -> Settings:
    """The settings of the run in `old` for a run called `name` in `new`.

    Where the old one stops before iteration `least`, the new one stops after that.
    """
    evaluation, independent = settings.evaluation, settings.evaluation.independent
    return settings.model_copy(
        update={
            "name": name,
            "model": _model(settings.model, old, new),
            "iterations": max(settings.iterations, least) if settings.iterations else 0,
            "database": settings.database.model_copy(update={"url": _url(settings.database.url, old, new)}),
            "seeds": settings.seeds.model_copy(
                update={"files": tuple(_seeds(file, old, new) for file in settings.seeds.files)}
            ),
            "self_instruct": settings.self_instruct.model_copy(
                update={"template": _file(settings.self_instruct.template, old, new)}
            ),
            "judge": _judge(settings.judge, old, new),
            "evaluation": evaluation.model_copy(
                update={
                    "template": _file(evaluation.template, old, new),
                    "independent": independent.model_copy(
                        update={"model": _model(independent.model, old, new)}
                    ),
                }
            ),
        }
    )


def _judge(judge: JudgeSettings, old: Path, new: Path) -> JudgeSettings:
    def elsewhere(section: S) -> S:
        return section.model_copy(update={"template": _file(section.template, old, new)})

    return elsewhere(judge).model_copy(
        update={
            "pairwise": elsewhere(judge.pairwise),
            "meta": elsewhere(judge.meta),
            "reward_model": _model(judge.reward_model, old, new),
        }
    )


def _relative(path: str, old: Path, new: Path) -> str:
    """An absolute path stays as it is."""
    return path if Path(path).is_absolute() else os.path.relpath(old / path, new)


def _model(text: str, old: Path, new: Path) -> str:
    """A directory below the old one; a hub id and a packaged model are named alike everywhere."""
    known = text and not text.startswith(("pkg:", "~")) and (old / text).is_dir()
    return _relative(text, old, new) if known else text


def _file(name: str | None, old: Path, new: Path) -> str | None:
    """A template of the old directory; one that ships is named alike everywhere."""
    return _relative(name, old, new) if name and (old / name).is_file() else name


def _seeds(name: str, old: Path, new: Path) -> str:
    if name in BUILTIN:
        return name
    if not name.startswith(PREFIX):
        return _relative(name, old, new)
    source, colon, split = name.removeprefix(PREFIX).partition(":")
    local = (old / source).is_dir()
    return f"{PREFIX}{_relative(source, old, new)}{colon}{split}" if local else name


def _url(url: str, old: Path, new: Path) -> str:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return url
    database = _relative(parsed.database, old, new)
    return parsed.set(database=database).render_as_string(hide_password=False)
