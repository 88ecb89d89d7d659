"""Is the daemon as fast as vLLM itself? Tokens per second of generation, against the `LLM` class.

The daemon's side is the loop's own `generate`: three pumps, a real server, a real database with its
fence, commits as they come. The other side is `LLM` in a process of its own, with the engine arguments
of that server and the requests that the daemon made. Both leave out the start of the engine. Sampled
texts differ in length, so tokens per second are compared, and the sides alternate: daemon, LLM, daemon.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from selfreward.children import spawn
from selfreward.config import Settings, load_preset
from selfreward.engines import vllm
from selfreward.seeds import read_seeds
from selfreward.stages.workplace import Workplace
from selfreward.store import Store
from selfreward.training.jobs import ConvertJob
from selfreward.training.launch import run_job
from selfreward.types import CheckpointKind, StageName
from tests.bench.figures import Figure, Options, Skipped
from tests.bench.quiet import QUIET, Reading
from tests.bench.recording import CommitClock, Recording, Request, generate_recorded

WANTED = 0.95
ORDER = (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE)
LOW_WATER = 0.25
"""A batch filled to less than this share of the `LLM` class's is called a tail."""


@dataclass(frozen=True, kw_only=True)
class DaemonRound:
    """One generation through the daemon's stages. Seconds from the first request to the last commit."""

    seconds: float
    tokens: int
    cpu_seconds: float
    """Processor time of the daemon's own process."""
    commits: int
    requests: tuple[Request, ...]
    command: tuple[str, ...]
    """The server's command line."""
    rows: Mapping[str, int]
    processors: Reading

    @property
    def rate(self) -> float:
        """Generated tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True, kw_only=True)
class LlmRound:
    """The same requests through `LLM`, one call a stage."""

    stages: tuple[Mapping[str, Any], ...]
    processors: Reading

    @property
    def rate(self) -> float:
        """Generated tokens per second of the three calls."""
        return float(sum(s["tokens"] for s in self.stages) / sum(s["seconds"] for s in self.stages))


def measure(options: Options) -> list[Figure]:
    """Alternate the two sides in a temporary directory and compare."""
    with tempfile.TemporaryDirectory(prefix="selfreward-bench-", ignore_cleanup_errors=True) as temporary:
        return asyncio.run(_measure(options, options.keep or Path(temporary)))


async def _measure(options: Options, directory: Path) -> list[Figure]:
    model = options.model or await _demo_model(directory / "model")
    settings = settings_of(options.prompts)
    daemons: list[DaemonRound] = []
    llms: list[LlmRound] = []
    for number in range(1, options.rounds + 1):
        daemons.append(await daemon_round(model, settings, directory / f"daemon-{number}"))
        _tell(f"daemon {number}", daemons[-1])
        if number < options.rounds or number == 1:
            llms.append(await llm_round(daemons[-1], settings, directory / f"llm-{number}"))
            _tell(f"LLM {number}", llms[-1])
    return list(_figures(daemons, llms))


def settings_of(prompts: int) -> Settings:
    """The demo's model and sampling, with more prompts, so that the ramp-up does not decide the figure.

    Judged with the paper's rubric, which M_0 keeps to only when its format is forced.
    """
    values = load_preset("demo")
    values["bootstrap"], values["evaluation"] = {"mode": "none"}, {"enabled": False}
    values["judge"] = {"guided": True, "top_p": 1.0, "top_k": 50, "max_tokens": 96}
    values["self_instruct"] = {**values["self_instruct"], "target": prompts, "max_attempts": 40 * prompts}
    return Settings.model_validate(values)


async def daemon_round(model: Path, settings: Settings, directory: Path) -> DaemonRound:
    """The loop's generation in a fresh directory and database."""
    directory.mkdir(parents=True)
    store = Store.open_or_create(settings.database.url, directory)
    try:
        clock = CommitClock()
        place = _workplace(model, settings, store, directory, clock)
        cpu = time.process_time()
        recording = await generate_recorded(place)
        return _round(recording, clock, time.process_time() - cpu, place)
    finally:
        store.close()


async def llm_round(daemon: DaemonRound, settings: Settings, directory: Path) -> LlmRound:
    """The requests of `daemon` in a child with `LLM`; nothing of it is left when this returns."""
    directory.mkdir(parents=True)
    job, result = directory / "job.json", directory / "result.json"
    stages = {stage.value: [r.body for r in daemon.requests if r.stage is stage] for stage in ORDER}
    job.write_text(json.dumps({"argv": daemon.command, "stages": stages}), encoding="utf-8")
    environment = vllm.environment(settings.engine, vllm.installed_build())
    command = [sys.executable, "-m", "tests.bench.inprocess", str(job), str(result)]
    child = spawn(command, directory / "log.txt", environment)
    try:
        status = await child.wait()
    finally:
        child.kill()
    if status:
        raise RuntimeError(f"the LLM process ended with status {status}:\n{child.log_tail(30)}")
    told = json.loads(result.read_text(encoding="utf-8"))
    return LlmRound(stages=tuple(told["stages"]), processors=Reading(**told["processors"]))


def in_flight(requests: Sequence[Request]) -> tuple[float, float]:
    """(mean number of sequences asked for at once, share of the time in which they are few).

    Few is below LOW_WATER of the most that were asked for at once.
    """
    changes = sorted([(r.began, r.n) for r in requests] + [(r.ended, -r.n) for r in requests])
    spans: list[tuple[int, float]] = []
    running = 0
    for (moment, change), (following, _) in pairwise(changes):
        running += change
        spans.append((running, following - moment))
    total = sum(seconds for _, seconds in spans)
    most = max(running for running, _ in spans)
    few = sum(seconds for running, seconds in spans if running < LOW_WATER * most)
    return sum(running * seconds for running, seconds in spans) / total, few / total


async def _demo_model(directory: Path) -> Path:
    """The demo's M_1, converted."""
    job = ConvertJob(
        source=load_preset("demo")["model"], run_dir=directory, output=directory / "M_1", fence=0
    )

    async def ignore(_: dict[str, Any]) -> None:
        """Nobody waits for the conversion's own words."""

    return (await run_job(job, directory / "job", ignore, asyncio.Event())).path


def _workplace(
    model: Path, settings: Settings, store: Store, directory: Path, clock: CommitClock
) -> Workplace:
    """Iteration 1 of a fresh run whose M_1 lies at `model`."""
    run = store.runs.ensure(settings.name)
    fence = store.leases.take(run.id, settings.daemon.lease_timeout_s)
    store.prompts.add_seeds(run.id, read_seeds(settings.seeds.files, directory).seeds)
    path = str(model.resolve())
    checkpoint = store.runs.add_checkpoint(run.id, 1, CheckpointKind.BASE, path, "not looked at")
    return Workplace(
        directory=directory,
        store=store,
        settings=settings,
        run=run,
        iteration=store.runs.open_iteration(run.id, 1, checkpoint.id, settings),
        checkpoint=checkpoint,
        fence=fence,
        reporter=clock,
        stop=asyncio.Event(),
    )


def _round(recording: Recording, clock: CommitClock, cpu: float, place: Workplace) -> DaemonRound:
    """Tokens are the server's own count, every rejected prompt included."""
    if recording.statistics is None or recording.processors is None or not recording.requests:
        raise Skipped("the server told no statistics")
    began = min(request.began for request in recording.requests)
    engine = place.settings.engine
    launch = vllm.prepare(place.model_path, engine, 0, 0)
    counts = place.store.journal.counts(place.iteration)
    return DaemonRound(
        seconds=clock.last_commit - began,
        tokens=recording.statistics.generated_tokens,
        cpu_seconds=cpu,
        commits=clock.commits,
        requests=tuple(recording.requests),
        command=launch.argv,
        rows={stage.value: counts[stage] for stage in ORDER},
        processors=recording.processors,
    )


def _figures(daemons: Sequence[DaemonRound], llms: Sequence[LlmRound]) -> Iterable[Figure]:
    ours, theirs = _median(daemons), _median(llms)
    ratio = ours / theirs
    yield Figure(
        name="daemon against LLM",
        reached=f"{ratio:.3f}",
        wanted=f">= {WANTED}",
        reached_it=ratio >= WANTED,
        note=_rounds(daemons, llms),
        data={"ratio": ratio, "daemon": [r.rate for r in daemons], "llm": [r.rate for r in llms]},
    )
    yield Figure(name="daemon", reached=f"{ours:.0f} tokens/s", note=_where_time_goes(daemons[-1]))
    yield Figure(name="LLM class", reached=f"{theirs:.0f} tokens/s", note=_stage_rates(llms[-1]))


def _median(rounds: Sequence[DaemonRound] | Sequence[LlmRound]) -> float:
    return statistics.median(single.rate for single in rounds)


def _rounds(daemons: Sequence[DaemonRound], llms: Sequence[LlmRound]) -> str:
    ours = ", ".join(f"{r.rate:.0f} ({r.tokens} tokens in {r.seconds:.0f} s)" for r in daemons)
    theirs = ", ".join(f"{r.rate:.0f}" for r in llms)
    others = max([r.processors.others for r in daemons] + [r.processors.others for r in llms])
    warning = "" if others < QUIET else " – NOT QUIET: measure again, the figure says little"
    return (
        f"tokens/s of the daemon {ours}; of LLM {theirs}; rows {dict(daemons[-1].rows)}; other programs "
        f"took up to {others:.0%} of the processors{warning}"
    )


def _where_time_goes(daemon: DaemonRound) -> str:
    mean, few = in_flight(daemon.requests)
    spans = "; ".join(_span(stage, daemon.requests) for stage in ORDER)
    return (
        f"{spans}; {mean:.0f} sequences asked for at once on average, few of them in {few:.0%} of the time; "
        f"{daemon.commits} commits; {daemon.cpu_seconds:.1f} s of processor time in the daemon"
    )


def _span(stage: StageName, requests: Sequence[Request]) -> str:
    """When a stage asked first, heard first and heard last; what comes between two stages is a commit."""
    start = min(request.began for request in requests)
    mine = [request for request in requests if request.stage is stage]
    asked = min(request.began for request in mine) - start
    replies = [request.ended - start for request in mine]
    tokens = sum(request.tokens for request in mine)
    return (
        f"{stage} from {asked:.1f} s, replies {min(replies):.1f}–{max(replies):.1f} s "
        f"({len(mine)} requests, {tokens} tokens)"
    )


def _stage_rates(llm: LlmRound) -> str:
    return "; ".join(
        f"{s['stage']} {s['tokens']} tokens in {s['seconds']:.0f} s ({s['tokens'] / s['seconds']:.0f}/s)"
        for s in llm.stages
    )


def _tell(name: str, single: DaemonRound | LlmRound) -> None:
    """One line as soon as a round is done: the whole takes minutes."""
    print(f"  {name}: {single.rate:.0f} tokens/s; {single.processors}", file=sys.stderr, flush=True)
