"""Everything that `/metrics` tells: name, help, labels, and where the samples come from.

The one list of it: the page is made from it, and docs/operations.md has it as a table. Labels are bounded:
runs are those whose daemons were seen last, and of the iterations only the current one is told of.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfreward import __version__
from selfreward.progress import RunStatus, StageProgress
from selfreward.rest import DATABASE, DISK, ENGINE, GATE, PAUSE, WINDOW
from selfreward.store.snapshot import Snapshot
from selfreward.store.standing import Row, Rows
from selfreward.types import GateState
from selfreward.web import surroundings
from selfreward.web.site import Site

REASONS = (PAUSE, WINDOW, GATE, ENGINE, DISK, DATABASE)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One scrape: the rows of a moment, and the site they belong to."""

    rows: Snapshot
    site: Site
    statuses: Sequence[RunStatus]
    """How far the runs are that are at work, and the one that the site is about."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric, by Prometheus's rules for names."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Any], Iterable[Row]]
    """Of a Look: values of the labels, then a number, or None where there is none."""

    @property
    def kind(self) -> Literal["counter", "gauge"]:
        """Its name tells."""
        return "counter" if self.name.endswith("_total") else "gauge"


def _resting(look: Look) -> Rows:
    for run, reasons in look.rows.resting():
        yield from ((run, reason, int(reason in reasons)) for reason in REASONS)


def _gate_states(look: Look) -> Rows:
    for run, gate, state, *_ in look.rows.gates():
        yield from ((run, gate, each, int(each == state)) for each in GateState)


def _stages(figure: Callable[[StageProgress], float | None]) -> Callable[[Look], Rows]:
    """(run, stage, figure) of the stages that the current iteration has begun."""

    def samples(look: Look) -> Rows:
        for status in look.statuses:
            begun = (stage for stage in status.stages if stage.started_at is not None)
            yield from ((status.run, stage.name, figure(stage)) for stage in begun)

    return samples


def _missing(stage: StageProgress) -> float | None:
    return None if stage.total is None else max(0, stage.total - stage.done)


def _token_rates(look: Look) -> Rows:
    for status in look.statuses:
        yield status.run, "generated", status.tokens_per_second.generated
        yield status.run, "prompt", status.tokens_per_second.prompt


def _of(name: str, help: str, labels: str, samples: Callable[[Look], Iterable[Row]]) -> Measure:
    return Measure(name=f"selfreward_{name}", help=help, labels=tuple(labels.split()), samples=samples)


BUILD = _of("build_info", "Version of selfreward that answers.", "version", lambda _: [(__version__, 1)])
READY = _of(
    "database_ready",
    "Whether the database answers and has the schema of this version. With 0 nothing else is told.",
    "",
    lambda _: [(1,)],
)
MEASURES = (
    BUILD,
    READY,
    _of(
        "run_info",
        "Runs, and for forks the run and iteration they go on from.",
        "run parent from_iteration",
        lambda look: look.rows.runs_by_parent(),
    ),
    _of(
        "daemon_up",
        "Whether a daemon is alive on the run: it holds the lease and shows signs of life.",
        "run",
        lambda look: surroundings.daemons(look.rows, look.site),
    ),
    _of(
        "daemon_resting",
        "Whether the daemon rests for this reason, by its last word.",
        "run reason",
        _resting,
    ),
    _of(
        "lease_heartbeat_age_seconds",
        "Seconds since the last sign of life of the run's last owner, also when it has left.",
        "run",
        lambda look: ((run, age) for run, _, age, _ in look.rows.leases()),
    ),
    _of(
        "lease_released",
        "Whether the last owner has given the run back: it ended in order.",
        "run",
        lambda look: ((run, released) for run, _, _, released in look.rows.leases()),
    ),
    _of(
        "lease_fence",
        "Fencing number of the lease: grows by one with each owner.",
        "run",
        lambda look: ((run, fence) for run, fence, *_ in look.rows.leases()),
    ),
    _of(
        "control_requests_open",
        "Requests (pause, resume, stop) that no daemon has taken up yet.",
        "run",
        lambda look: look.rows.open_requests(),
    ),
    _of(
        "events_total",
        "Events that were written down, by kind.",
        "run kind",
        lambda look: look.rows.events(),
    ),
    _of("iteration", "Number of the current iteration.", "run", lambda look: look.rows.iterations()),
    _of(
        "iteration_status",
        "Status of the current iteration: 1 for the one it has.",
        "run status",
        lambda look: look.rows.iteration_statuses(),
    ),
    _of(
        "iterations_done_total",
        "Iterations that are done.",
        "run",
        lambda look: look.rows.iterations_done(),
    ),
    _of(
        "stage_status",
        "Status of each stage that the current iteration has begun: 1 for the one it has.",
        "run stage status",
        lambda look: look.rows.stage_statuses(),
    ),
    _of(
        "stage_attempts",
        "How often each stage of the current iteration was started.",
        "run stage",
        lambda look: look.rows.stage_attempts(),
    ),
    _of(
        "stage_items",
        "What each stage of the current iteration has done: prompts, answers, judgements, pairs, steps.",
        "run stage",
        _stages(lambda stage: stage.done),
    ),
    _of(
        "stage_items_wanted",
        "How many it is to do, as far as is known.",
        "run stage",
        _stages(lambda stage: stage.total),
    ),
    _of(
        "stage_items_missing",
        "How many it lacks: the length of its queue.",
        "run stage",
        _stages(_missing),
    ),
    _of(
        "stage_items_per_second",
        "How many it does, over the last minute.",
        "run stage",
        _stages(lambda stage: stage.rate),
    ),
    _of(
        "stage_left_seconds",
        "How long it still needs at its rate.",
        "run stage",
        _stages(lambda stage: stage.seconds_left),
    ),
    _of(
        "tokens_per_second",
        "Tokens that the engine writes and reads, over the last minute.",
        "run kind",
        _token_rates,
    ),
    _of(
        "prompts_total",
        "Prompts that models wrote, by status and by the reason for turning them away.",
        "run status reason",
        lambda look: look.rows.prompts(),
    ),
    _of(
        "candidates_total",
        "Answers to prompts, by how they ended.",
        "run status",
        lambda look: look.rows.candidates(),
    ),
    _of(
        "judgements_total",
        "Judgements of answers, by how they could be read.",
        "run status",
        lambda look: look.rows.judgements(),
    ),
    _of(
        "judgement_score_mean",
        "Mean of the readable scores of the current iteration, 0 to 5.",
        "run",
        lambda look: look.rows.mean_scores(),
    ),
    _of(
        "pair_decisions_total",
        "Prompts by what became of them when pairs were drawn.",
        "run outcome",
        lambda look: look.rows.pair_decisions(),
    ),
    _of(
        "item_failures_total",
        "Failed tries of single prompts, answers and judgements.",
        "run stage",
        lambda look: look.rows.failures(),
    ),
    _of(
        "generated_tokens_total",
        "Tokens of the stored answers (sample) and judgements (judge).",
        "run stage",
        lambda look: look.rows.tokens(),
    ),
    _of(
        "engine_sessions_total",
        "Inference servers that were started.",
        "run",
        lambda look: look.rows.sessions(),
    ),
    _of(
        "engine_restarts_total",
        "Inference servers that died and were started again.",
        "run",
        lambda look: look.rows.events("engine_failed"),
    ),
    _of(
        "engine_prompt_tokens_total",
        "Prompt tokens that inference servers have read, as far as they were noted.",
        "run",
        lambda look: look.rows.session_tokens("prompt_tokens"),
    ),
    _of(
        "engine_generated_tokens_total",
        "Tokens that inference servers have written, as far as they were noted.",
        "run",
        lambda look: look.rows.session_tokens("generated_tokens"),
    ),
    _of(
        "gate_state",
        "Finding of each health gate in the newest iteration that was checked: 1 for the one it has.",
        "run gate state",
        _gate_states,
    ),
    _of(
        "gate_value",
        "What each health gate has measured.",
        "run gate",
        lambda look: ((run, gate, value) for run, gate, _, value, _ in look.rows.gates()),
    ),
    _of(
        "gate_limit",
        "What the measured value is held against.",
        "run gate",
        lambda look: ((run, gate, limit) for run, gate, _, _, limit in look.rows.gates()),
    ),
    _of(
        "training_step",
        "Last optimiser step of the newest training.",
        "run stage",
        lambda look: look.rows.training_steps(),
    ),
    _of(
        "training_loss",
        "Loss at that step.",
        "run stage",
        lambda look: look.rows.training("loss"),
    ),
    _of(
        "training_reward_margin",
        "Implicit reward of chosen less that of rejected replies at that step (DPO).",
        "run stage",
        lambda look: look.rows.training("rewards/margins"),
    ),
    _of(
        "training_accuracy_ratio",
        "Share of pairs told apart (DPO) or of tokens foretold (SFT) at that step.",
        "run stage",
        lambda look: look.rows.training("rewards/accuracies", "mean_token_accuracy"),
    ),
    _of(
        "training_learning_rate",
        "Learning rate at that step.",
        "run stage",
        lambda look: look.rows.training("learning_rate"),
    ),
    _of(
        "evaluation",
        "Figures of the newest checkpoint that was measured.",
        "run checkpoint suite metric",
        lambda look: look.rows.evaluations("value"),
    ),
    _of(
        "evaluation_low",
        "Lower ends of their 95% intervals.",
        "run checkpoint suite metric",
        lambda look: look.rows.evaluations("low"),
    ),
    _of(
        "evaluation_high",
        "Upper ends of their 95% intervals.",
        "run checkpoint suite metric",
        lambda look: look.rows.evaluations("high"),
    ),
    _of(
        "checkpoints",
        "Checkpoints whose files are kept, and those that retention has removed.",
        "run files",
        lambda look: look.rows.checkpoints(),
    ),
    _of(
        "checkpoint_bytes",
        "Size of the checkpoints whose files are kept, by their manifests.",
        "run",
        lambda look: surroundings.checkpoint_bytes(look.rows, look.site),
    ),
    _of(
        "database_bytes",
        "Size of the database.",
        "",
        lambda look: [(look.rows.database_bytes(),)],
    ),
    _of(
        "backups",
        "Copies of the database that the daemon keeps.",
        "",
        lambda look: surroundings.backups(look.site),
    ),
    _of(
        "backup_age_seconds",
        "Age of the newest of them.",
        "",
        lambda look: surroundings.backup_age(look.site),
    ),
    _of(
        "disk_free_bytes",
        "Bytes that are free where the runs are.",
        "",
        lambda look: surroundings.disk_free(look.site),
    ),
    _of(
        "disk_size_bytes",
        "Size of that file system.",
        "",
        lambda look: surroundings.disk_size(look.site),
    ),
)
"""In the order of the page."""


def as_markdown() -> str:
    """The table of docs/operations.md."""
    lines = ["| metric | labels | |", "|---|---|---|"]
    for measure in MEASURES:
        labels = ", ".join(f"`{label}`" for label in measure.labels)
        lines.append(f"| `{measure.name}` | {labels} | {measure.help} |")
    return "\n".join(lines)
