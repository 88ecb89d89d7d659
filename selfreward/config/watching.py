"""Settings of what watches over the loop: evaluation, health gates, messages, the daemon around it all."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_serializer, field_validator

from selfreward.config.generation import SamplingSettings
from selfreward.config.section import Section
from selfreward.types import Gate


class IndependentJudgeSettings(Section):
    """A judge that is not of this run, for the same comparisons."""

    model: str = ""
    """Unset: none. A local model or hub id that the engine serves, or the model's name at `url`."""
    url: str = ""
    """Base URL of an OpenAI-compatible endpoint, without /v1; unset: the engine serves `model`."""
    api_key_env: str = ""
    """Environment variable that holds the endpoint's key."""


class EvaluationSettings(SamplingSettings):
    """Measuring every M_t on held-out seeds: as a judge against human ranks, and as an assistant."""

    enabled: bool = True
    """Measure each checkpoint."""
    prompts: int = Field(default=50, ge=0)
    """Held-out prompts that are answered and compared."""
    replies: int = Field(default=200, ge=0)
    """Held-out ranked replies that are judged, canaries aside; whole prompts, up to this many replies."""
    samples: int = Field(default=1, ge=1)
    """Judgements of each of them."""
    compare: bool = True
    """Compare answers with those of M_{t-1} and M_1, each pair in both orders."""
    template: str = "compare.jinja"
    """Template of a comparison, in prompts/ or a path from the run's directory."""
    independent: IndependentJudgeSettings = IndependentJudgeSettings()
    """A judge of another kind."""


class GateSettings(Section):
    """What must hold before M_{t+1} is trained; else the daemon warns or pauses."""

    enabled: bool = True
    """Look at all."""
    min_readable_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the judgements that can be read."""
    max_one_score_share: float = Field(default=0.95, ge=0, le=1)
    """Share of the judgements that give the commonest score."""
    max_tie_share: float = Field(default=0.9, ge=0, le=1)
    """Share of the prompts whose candidates all have the same mean score."""
    min_spread: float = Field(default=0.1, ge=0, le=5)
    """Mean distance, within a prompt, between its best and its worst mean score."""
    max_length_correlation: float = Field(default=0.8, ge=-1, le=1)
    """Correlation of score and length within prompts."""
    max_length_growth: float = Field(default=2.5, gt=0)
    """Mean length of held-out answers against those of M_1."""
    judge_accuracy: bool = True
    """Pairwise accuracy on held-out ranks must not fall below the interval of M_1's."""
    min_items: int = Field(default=8, ge=1)
    """With fewer items than this a gate says nothing."""
    pause: tuple[Gate, ...] = (
        Gate.READABLE_SHARE,
        Gate.ONE_SCORE_SHARE,
        Gate.TIE_SHARE,
        Gate.JUDGE_ACCURACY,
    )
    """Gates that pause the daemon; the others warn."""


class NotifySettings(Section):
    """Messages to a web address when something happens. The loop never waits for them."""

    url: SecretStr = SecretStr("")
    """Where each is posted as JSON; unset: nowhere. A secret is safer in SELFREWARD_NOTIFY__URL than here."""
    events: tuple[Literal["gate", "failure", "iteration"], ...] = ("gate", "failure", "iteration")
    """What is told: a health gate holds the run, something has failed, an iteration is done."""
    timeout_s: float = Field(default=10, gt=0)
    """How long the address may take to answer."""
    attempts: int = Field(default=5, ge=1)
    """Tries of one message, with longer and longer pauses, before it is given up."""

    @field_validator("url")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and (not re.match(r"https?://", url) or not urlsplit(url).hostname):
            raise ValueError("not an address that begins with http:// or https://")
        return value

    @field_serializer("url", when_used="json")
    def _keep(self, _value: SecretStr) -> str:
        """Rows, exports and digests of settings are JSON: the address is in none of them."""
        return ""


class DaemonSettings(Section):
    """How the daemon behaves around the loop."""

    grace_s: float = Field(default=60, gt=0)
    """On a stop, how long requests in flight may take before they are given up."""
    max_attempts: int = Field(default=3, ge=1)
    """Tries of one item (a prompt, a candidate) before it is marked as failed and passed over."""
    commit_rows: int = Field(default=64, ge=1)
    """Results are committed after this many rows …"""
    commit_seconds: float = Field(default=1.0, gt=0)
    """… or this long, whichever is first."""
    engine_restarts: int = Field(default=3, ge=0)
    """Restarts of an engine that dies without getting anything done, each time with half the batch, before
    the daemon rests and says why."""
    lease_timeout_s: float = Field(default=60, ge=5)
    """A daemon that has not shown a sign of life for this long may be replaced."""
    database_patience_s: float = Field(default=120, ge=0)
    """How long a locked or unreachable database is waited for before the daemon rests."""
    keep_checkpoints: int = Field(default=0, ge=0)
    """Keep the files of this many newest checkpoints, and of M_0, M_1, and those that a fork starts from, a
    measuring still needs or a user has pinned; 0: of all. Rows are never removed."""
    backup_every_minutes: float = Field(default=60, ge=0)
    """SQLite: copy the database into backups/ this often; 0 never."""
    backup_keep: int = Field(default=5, ge=1)
    """Backups kept."""
    run_window: str | None = None
    """Work only in this time of day, as "20:00-08:00" in the machine's time zone."""

    @field_validator("run_window")
    @classmethod
    def _window_reads(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError(f'{value!r} is not a window like "20:00-08:00"')
        return value
