"""The skeleton of the loop: runs, settings, checkpoints, iterations, stages, and who works on them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from selfreward.store.schema.base import Id, Table, key, refers_to


class Run(Table):
    """A line of iterations M_1, M_2, …"""

    __tablename__ = "run"
    __table_args__ = ({"comment": "A line of iterations."},)

    id: Mapped[int] = key()
    name: Mapped[str] = mapped_column(unique=True, comment="Slug that commands take with --run.")
    parent_run_id: Mapped[int | None] = refers_to("run.id", "The run this one was forked from.")
    parent_iteration: Mapped[int | None] = mapped_column(
        comment="The iteration of the parent it starts from."
    )
    seeds_run_id: Mapped[int | None] = refers_to(
        "run.id", "The run whose seeds it uses; NULL: its own. A fork uses those of the run it comes from."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Setting(Table):
    """A resolved configuration."""

    __tablename__ = "setting"
    __table_args__ = ({"comment": "A resolved configuration, stored once."},)

    hash: Mapped[str] = mapped_column(primary_key=True, comment="sha256 of the canonical JSON.")
    body: Mapped[dict[str, Any]] = mapped_column(comment="Every setting, defaults included.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Checkpoint(Table):
    """M_t."""

    __tablename__ = "checkpoint"
    __table_args__ = (
        UniqueConstraint("run_id", "name"),
        {"comment": "A model on disk: M_version of a run, or a reward model R_version."},
    )

    id: Mapped[int] = key()
    run_id: Mapped[int] = refers_to("run.id", "The run that made it.")
    version: Mapped[int] = mapped_column(comment="t of M_t or R_t.")
    name: Mapped[str] = mapped_column(
        comment="M_t as text; M_0_ift is the SFT baseline of the bootstrap, R_t a reward model."
    )
    kind: Mapped[str] = mapped_column(
        comment="What made it: base, sft, dpo or another objective's name, copy, reward."
    )
    path: Mapped[str] = mapped_column(
        comment="Directory, relative to that of the run from which all forks come."
    )
    digest: Mapped[str] = mapped_column(
        comment="sha256 over its manifest: two equal digests are the same model."
    )
    parent_id: Mapped[int | None] = refers_to("checkpoint.id", "The checkpoint it was trained from.")
    pinned: Mapped[bool] = mapped_column(
        server_default=false(), comment="Whether a user keeps its files from retention."
    )
    removed_at: Mapped[datetime | None] = mapped_column(
        comment="UTC, when retention removed its files; the row stays."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Iteration(Table):
    """Iteration t."""

    __tablename__ = "iteration"
    __table_args__ = (
        UniqueConstraint("run_id", "t"),
        {"comment": "Iteration t of a run: what M_t wrote, answered and judged, and the training after it."},
    )

    id: Mapped[int] = key()
    run_id: Mapped[int] = refers_to("run.id", "Its run.")
    t: Mapped[int] = mapped_column(comment="Number in the run; 0 is the bootstrap M_0 → M_1.")
    checkpoint_id: Mapped[int] = refers_to("checkpoint.id", "M_t, the model that works in it.")
    setting_hash: Mapped[str] = mapped_column(ForeignKey("setting.hash"), comment="The settings in force.")
    data_iteration_id: Mapped[int | None] = refers_to(
        "iteration.id", "Whose prompts and candidates it uses; itself unless forked with reuse."
    )
    judge_id: Mapped[int | None] = refers_to(
        "judge.id", "Whose judgements of its candidates count; NULL before there are any."
    )
    status: Mapped[str] = mapped_column(
        comment="running, done, halted or failed; pending: only its model is measured."
    )
    started_at: Mapped[datetime] = mapped_column(comment="UTC.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="UTC.")


class Stage(Table):
    """One step of an iteration."""

    __tablename__ = "stage"
    __table_args__ = (
        UniqueConstraint("iteration_id", "name"),
        {"comment": "One step of an iteration."},
    )

    id: Mapped[int] = key()
    iteration_id: Mapped[int] = refers_to("iteration.id", "Its iteration.")
    name: Mapped[str] = mapped_column(comment="self_instruct, sample, judge, pair, train, …")
    status: Mapped[str] = mapped_column(comment="pending, running, done, halted or failed.")
    attempts: Mapped[int] = mapped_column(comment="How often it was started.")
    cursor: Mapped[int] = mapped_column(
        comment="No item with an id up to this one is missing: where a resume looks on."
    )
    detail: Mapped[str] = mapped_column(comment="How it ended, in words.")
    error: Mapped[str | None] = mapped_column(comment="Why it failed last.")
    versions: Mapped[dict[str, Any] | None] = mapped_column(
        comment="Versions of Python, selfreward and the libraries it used, when it was last started."
    )
    started_at: Mapped[datetime | None] = mapped_column(comment="UTC, first start.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="UTC.")


class EngineSession(Table):
    """One life of an inference server."""

    __tablename__ = "engine_session"
    __table_args__ = ({"comment": "One life of an inference server, with the seed it sampled from."},)

    id: Mapped[int] = key()
    iteration_id: Mapped[int] = refers_to("iteration.id", "The iteration it served.")
    checkpoint_id: Mapped[int] = refers_to("checkpoint.id", "The model it served.")
    engine: Mapped[str] = mapped_column(comment="vllm or fake.")
    seed: Mapped[int] = mapped_column(comment="The server's sampling seed, fresh for every session.")
    started_at: Mapped[datetime] = mapped_column(comment="UTC, when it was asked to start.")
    ready_at: Mapped[datetime | None] = mapped_column(comment="UTC, when it answered.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="UTC; NULL when it died with the daemon.")
    prompt_tokens: Mapped[int | None] = mapped_column(comment="Prompt tokens it read.")
    generated_tokens: Mapped[int | None] = mapped_column(comment="Tokens it wrote.")


class ItemFailure(Table):
    """Failed tries of one item."""

    __tablename__ = "item_failure"
    __table_args__ = (
        {"comment": "Failed tries of one item of a stage; at the cap it is marked failed and passed over."},
    )

    stage_id: Mapped[int] = mapped_column(Id, ForeignKey("stage.id"), primary_key=True, comment="The stage.")
    item_id: Mapped[int] = mapped_column(
        Id, primary_key=True, autoincrement=False, comment="Id of the prompt, candidate, reply or answer."
    )
    attempts: Mapped[int] = mapped_column(comment="Failed tries so far.")
    last_error: Mapped[str] = mapped_column(comment="What the last one said.")


class Event(Table):
    """What the daemon did, and why."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_run", "run_id", "id"),
        {"comment": "What the daemon did, and why."},
    )

    id: Mapped[int] = key()
    run_id: Mapped[int] = refers_to("run.id", "Its run.")
    iteration_id: Mapped[int | None] = refers_to("iteration.id", "The iteration it concerns.")
    at: Mapped[datetime] = mapped_column(comment="UTC.")
    kind: Mapped[str] = mapped_column(
        comment="started, stopped, paused, resumed, stage_done, halted, failed, …"
    )
    message: Mapped[str] = mapped_column(comment="One sentence.")
    data: Mapped[dict[str, Any]] = mapped_column(comment="Figures that go with it.")


class Lease(Table):
    """Who runs the run."""

    __tablename__ = "lease"
    __table_args__ = (
        {"comment": "Who runs a run. Taking it increments fence; every write carries the fence."},
    )

    run_id: Mapped[int] = mapped_column(
        Id, ForeignKey("run.id"), primary_key=True, autoincrement=False, comment="The run."
    )
    owner: Mapped[str] = mapped_column(comment="host:pid of the daemon.")
    boot_id: Mapped[str] = mapped_column(
        comment="Kernel boot and process namespace: where its process id means something."
    )
    pid: Mapped[int] = mapped_column(comment="Its process id.")
    pid_started: Mapped[int] = mapped_column(
        Id, comment="Kernel ticks at which that process started: pids are reused."
    )
    fence: Mapped[int] = mapped_column(comment="Grows by one with each owner.")
    heartbeat_at: Mapped[datetime] = mapped_column(comment="UTC, last sign of life.")
    heartbeat_monotonic: Mapped[float] = mapped_column(
        comment="The same on the host's monotonic clock, which no clock change moves."
    )
    released_at: Mapped[datetime | None] = mapped_column(comment="UTC, when its owner gave it back.")


class ControlRequest(Table):
    """What the user asked of the daemon."""

    __tablename__ = "control_request"
    __table_args__ = (
        Index(
            "ix_control_request_open",
            "run_id",
            "id",
            sqlite_where=text("handled_at IS NULL"),
            postgresql_where=text("handled_at IS NULL"),
        ),
        {"comment": "What a user asked of the daemon."},
    )

    id: Mapped[int] = key()
    run_id: Mapped[int] = refers_to("run.id", "Its run.")
    action: Mapped[str] = mapped_column(comment="pause, resume or stop.")
    requested_at: Mapped[datetime] = mapped_column(comment="UTC.")
    handled_at: Mapped[datetime | None] = mapped_column(comment="UTC, when the daemon took it up.")
