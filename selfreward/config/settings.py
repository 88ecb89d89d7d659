"""Everything a run is made with, in one tree: the tables of `selfreward.toml` are its fields."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, Field, field_validator

from selfreward.config.generation import (
    EngineSettings,
    JudgeSettings,
    PairSettings,
    SampleSettings,
    SeedSettings,
    SelfInstructSettings,
)
from selfreward.config.section import Section
from selfreward.config.training import BootstrapSettings, TrainSettings
from selfreward.config.watching import (
    DaemonSettings,
    EvaluationSettings,
    GateSettings,
    NotifySettings,
)


class DatabaseSettings(Section):
    """Where every row goes."""

    url: str = "sqlite:///selfreward.db"
    """SQLAlchemy URL. A relative SQLite path is taken from the run's directory; PostgreSQL is postgresql+psycopg://user@host/name."""


class Settings(Section):
    """Everything a run is made with."""

    name: str = Field(default="main", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """The run's name: lower-case letters, digits, - and _."""
    model: str = Field(default="", min_length=0)
    """M_0 (M_1 with bootstrap = "none"): a local directory, a hub id (org/name), or a GGUF in a Python
    package (pkg:name/file.gguf)."""
    iterations: int = Field(default=0, ge=0)
    """Stop when this many iterations are done; 0 goes on until stopped."""
    seed: int = 0
    """Seed of what the daemon itself draws: demonstrations, engine seeds, training order."""
    database: DatabaseSettings = DatabaseSettings()
    engine: EngineSettings = EngineSettings()
    seeds: SeedSettings = SeedSettings()
    self_instruct: SelfInstructSettings = SelfInstructSettings()
    sample: SampleSettings = SampleSettings()
    judge: JudgeSettings = JudgeSettings()
    pair: PairSettings = PairSettings()
    train: TrainSettings = TrainSettings()
    bootstrap: BootstrapSettings = BootstrapSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gates: GateSettings = GateSettings()
    notify: NotifySettings = NotifySettings()
    daemon: DaemonSettings = DaemonSettings()

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _bootstrap_in_a_word(cls, value: Any) -> Any:
        """`bootstrap = "none"` is short for `bootstrap.mode = "none"`."""
        return {"mode": value} if isinstance(value, str) else value

    def digest(self) -> str:
        """sha256 of the canonical JSON: the key under which the settings are stored."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def canonical_json(self) -> str:
        """The resolved settings as JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)


def setting_names(section: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Every dotted key the settings accept."""
    names = []
    for key, field in section.model_fields.items():
        names.append(prefix + key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += setting_names(field.annotation, f"{prefix}{key}.")
    return names
