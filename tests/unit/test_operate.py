"""Running it as a service: systemd, containers, alerts, trackers, logs."""

import asyncio
import contextvars
import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from rich.console import Console

from selfreward.cli import serve
from selfreward.config import DaemonSettings, Settings
from selfreward.errors import BadInput, ExitCode
from selfreward.reporting import (
    LogReporter,
    TerminalReporter,
    configure_logging,
    log_everything,
    tell_failure,
)
from selfreward.systemd import Announcing, Service
from selfreward.training import trackers
from selfreward.types import StageName
from selfreward.web.measures import MEASURES
from selfreward.whereabouts import at_stage, enter_iteration, enter_run, enter_stage
from tests.commands import selfreward

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
HOSTS = re.compile(r"https?://(?!localhost|127\.0\.0\.1|arxiv\.org)[\w.-]+")


class Systemd:
    """The socket that systemd would listen on."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(10)
        self.path = path

    def heard(self) -> str:
        """The next message."""
        return self._socket.recv(4096).decode()

    def silent(self) -> bool:
        """Whether nothing has come."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        """No more."""
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(made.path))
    yield made
    made.close()


@pytest.fixture
def fresh_logging() -> Iterator[None]:
    """What a daemon sets for its process is undone."""
    hook, root = sys.excepthook, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    sys.excepthook, root.handlers[:] = hook, handlers
    root.setLevel(level)


def in_run(call: Any) -> Any:
    """`call` as a daemon of run main would."""

    def within() -> Any:
        enter_run("main")
        return call()

    return contextvars.copy_context().run(within)


def test_systemd_hears_that_the_daemon_is_ready_at_work_and_stopping(systemd: Systemd) -> None:
    service = Service()
    reporter = Announcing(LogReporter({}), service)

    def work() -> None:
        service.ready()
        enter_iteration(2)
        reporter.begin(StageName.SAMPLE, 0, 8)
        reporter.progress(StageName.SAMPLE, 4)
        reporter.end(StageName.SAMPLE, "8 candidates")
        service.status("resting: disk\nREADY=1")
        service.stopping()

    in_run(work)
    assert [systemd.heard() for _ in range(6)] == [
        "READY=1",
        "STATUS=main, iteration 2, sample 0/8",
        "STATUS=main, iteration 2, sample 4/8",
        "STATUS=main, iteration 2, sample: 8 candidates",
        "STATUS=resting: disk READY=1",
        "STOPPING=1",
    ]


@pytest.mark.parametrize(("pid", "signs"), [(None, True), ("mine", True), ("1", False)])
def test_the_event_loop_gives_signs_of_life_if_systemd_asks_this_process(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, pid: str | None, signs: bool
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "mine" else pid)

    async def live() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await Service().keep_alive()

    asyncio.run(live())
    if signs:
        assert [systemd.heard() for _ in range(3)] == ["WATCHDOG=1"] * 3
    else:
        assert systemd.silent()


def test_without_systemd_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    service = Service({})
    service.ready()
    service.status("x")
    gone = Service({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    gone.ready()


def test_the_units_are_sound(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("selfreward", "selfreward-serve"):
        text = (DEPLOY / f"{name}.service").read_text().replace("/opt/selfreward/bin/selfreward", "/bin/true")
        (tmp_path / f"{name}@.service").write_text(text)
    units = [str(path) for path in tmp_path.glob("*.service")]
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    mine = [line for line in checked.stderr.splitlines() if "selfreward" in line]
    assert not mine, mine


def test_the_unit_agrees_with_the_settings_and_exit_codes() -> None:
    unit = dict(
        line.split("=", 1)
        for line in (DEPLOY / "selfreward.service").read_text().splitlines()
        if re.match(r"[A-Z]\w+=", line)
    )
    daemon = DaemonSettings()
    assert unit["Type"] == "notify" and unit["KillMode"] == "mixed"
    assert int(unit["TimeoutStopSec"]) > 2 * daemon.grace_s
    assert int(unit["WatchdogSec"]) > 3 * daemon.database_patience_s
    assert int(unit["TimeoutStartSec"]) > daemon.lease_timeout_s + daemon.database_patience_s
    assert {int(code) for code in unit["RestartPreventExitStatus"].split()} == {
        ExitCode.BAD_INPUT,
        ExitCode.BUSY,
    }


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_deploy_files_name_no_index_host_and_no_machine(path: Path) -> None:
    text = path.read_text()
    assert not HOSTS.findall(text)
    assert "/root" not in text and "/work" not in text


def test_the_compose_file_fits_the_command_line_and_prometheus() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"database", "daemon", "pages", "prometheus"}
    assert all("healthcheck" in services[name] for name in ("database", "pages", "prometheus"))
    assert services["pages"]["ports"] == [f"127.0.0.1:{serve.PORT}:{serve.PORT}"]
    named = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service["volumes"]
        if not volume.startswith(".")
    }
    assert named == set(compose["volumes"])
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    [target] = scraped[0]["targets"]
    assert target == f"pages:{serve.PORT}" and f"--allow-host {target.split(':')[0]}" in str(
        services["pages"]
    )
    assert set(yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]) <= set(services)


def test_compose_itself_reads_the_files() -> None:
    if shutil.which("docker") is None or _docker("compose", "version").returncode != 0:
        pytest.skip("docker compose is not installed")
    files = ("-f", str(DEPLOY / "compose.yaml"), "-f", str(DEPLOY / "compose.gpu.yaml"))
    checked = _docker("compose", *files, "config", "--quiet")
    assert checked.returncode == 0, checked.stderr


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "POSTGRES_PASSWORD": "x"}
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=60, check=False, env=environ
    )


def test_alerts_ask_for_metrics_and_labels_that_there_are() -> None:
    known = {measure.name: set(measure.labels) for measure in MEASURES}
    rules = [
        rule
        for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    assert {
        "SelfrewardDaemonStale",
        "SelfrewardGatePaused",
        "SelfrewardEngineRestarts",
        "SelfrewardDiskLow",
    } <= {rule["alert"] for rule in rules}
    for rule in rules:
        named = re.findall(r"(selfreward_\w+)(?:\{(.*?)\})?", rule["expr"])
        assert named or rule["expr"].startswith("up{"), rule
        for name, selected in named:
            assert set(re.findall(r"(\w+)=~?\"", selected)) <= known[name], (name, selected)
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "rules", str(DEPLOY / "alerts.yml")], check=True, timeout=60)


def reporting_to(*names: str, **table: Any) -> Settings:
    return Settings.model_validate({"train": {"report_to": names}, **table})


def test_a_tracker_that_is_not_installed_is_told_before_anything_starts(tmp_path: Path) -> None:
    absent = next(name for name in trackers.TRACKERS if not _installed(name))
    with pytest.raises(BadInput) as caught:
        trackers.require(reporting_to(absent))
    assert "train.report_to" in caught.value.message and f"pip install {absent}" in caught.value.hint
    settings = tmp_path / "selfreward.toml"
    settings.write_text(f'model = "x/y"\n[train]\nreport_to = ["{absent}"]\n')
    started = selfreward("start", "--dir", str(tmp_path))
    assert started.returncode == ExitCode.BAD_INPUT and f"pip install {absent}" in started.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["selfreward.toml"], "nothing was begun"
    examined = json.loads(selfreward("doctor", "--json", "--dir", str(tmp_path)).stdout)
    [finding] = [finding for finding in examined if finding["what"] == "trackers"]
    assert finding["level"] == "missing" and absent in finding["remedy"]


def test_an_unknown_tracker_is_told_with_those_there_are() -> None:
    with pytest.raises(BadInput) as caught:
        trackers.require(reporting_to("tensorbored"))
    assert "tensorbored" in caught.value.message and "tensorboard, wandb" in caught.value.hint


def test_trackers_of_what_is_not_trained_with_trl_are_not_missed() -> None:
    trackers.require(Settings())
    trackers.require(reporting_to("tensorbored", train={"type": "fake", "report_to": ["tensorbored"]}))
    sft = {"mode": "sft", "sft": {"report_to": ["tensorbored"]}}
    with pytest.raises(BadInput) as caught:
        trackers.require(Settings.model_validate({"bootstrap": sft}))
    assert "bootstrap.sft.report_to" in caught.value.message


def test_a_directory_that_a_tracker_has_left_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = next(name for name in trackers.TRACKERS if not _installed(name))
    (tmp_path / absent).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert trackers.missing([absent]) == [absent]


def test_trackers_write_into_the_job_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    wished = trackers.environment(
        ["wandb", "tensorboard", "mlflow", "trackio"], tmp_path, {"WANDB_MODE": "online"}
    )
    assert "WANDB_MODE" not in wished and wished["WANDB_DIR"] == str(tmp_path)
    assert wished["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard")
    assert wished["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert trackers.environment(["wandb"], tmp_path, {})["WANDB_MODE"] == "offline"


def _installed(name: str) -> bool:
    return any(find_spec(module) for module in trackers.TRACKERS[name].modules)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("fresh_logging")
def test_every_line_says_run_iteration_and_stage(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    reporter = LogReporter({})

    def work() -> None:
        reporter.say("before anything")
        enter_iteration(3)
        with at_stage(StageName.TRAIN):
            reporter.say("starting the trainer", level="warning", pairs=4)
        reporter.begin(StageName.SAMPLE, 0, 4)
        enter_stage(StageName.JUDGE)
        reporter.say("judged")
        assert tell_failure("too few", "more prompts")

    in_run(work)
    found = lines(capsys.readouterr().err)
    assert [(line["run"], line["iteration"], line["stage"], line["level"]) for line in found] == [
        ("main", None, None, "info"),
        ("main", 3, "train", "warning"),
        ("main", 3, "sample", "info"),
        ("main", 3, "judge", "info"),
        ("main", 3, "judge", "error"),
    ]
    assert found[-1]["hint"] == "more prompts"


@pytest.mark.usefixtures("fresh_logging")
def test_tasks_share_the_iteration_and_have_stages_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    reporter = LogReporter({})

    async def pump(stage: StageName) -> None:
        enter_stage(stage)
        await asyncio.sleep(0)
        await asyncio.to_thread(reporter.say, "from a thread")

    async def work() -> None:
        enter_run("main")
        listening = asyncio.create_task(later())
        enter_iteration(1)
        await asyncio.gather(pump(StageName.SAMPLE), pump(StageName.JUDGE))
        await listening

    async def later() -> None:
        await asyncio.sleep(0.01)
        reporter.say("asked to pause")

    asyncio.run(work())
    found = {(line["event"], line["iteration"], line["stage"]) for line in lines(capsys.readouterr().err)}
    assert found == {
        ("from a thread", 1, "sample"),
        ("from a thread", 1, "judge"),
        ("asked to pause", 1, None),
    }


@pytest.mark.usefixtures("fresh_logging")
def test_the_level_is_the_least_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    reporter = LogReporter({})
    reporter.begin(StageName.SAMPLE, 0, 4)
    reporter.say("resting", level="warning")
    assert [line["event"] for line in lines(capsys.readouterr().err)] == ["resting"]
    shown = io.StringIO()
    with TerminalReporter(Console(file=shown, width=80), "x", "warning") as terminal:
        terminal.say("going on")
        terminal.say("resting", level="warning")
    assert "resting" in shown.getvalue() and "going on" not in shown.getvalue()


@pytest.mark.usefixtures("fresh_logging")
def test_what_libraries_log_and_what_nobody_catches_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        configure_logging()
        log_everything()
        logging.getLogger("httpx").info("POST https://hooks.example/secret")
        logging.getLogger("apscheduler").warning("missed by %s s", 3)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("odd", stacklevel=1)
        try:
            raise ValueError("\x1b[31mbroken")
        except ValueError as error:
            sys.excepthook(ValueError, error, error.__traceback__)

    in_run(work)
    text = capsys.readouterr().err
    told, warned, crashed = lines(text)
    assert (told["event"], told["run"], told["level"]) == ("missed by 3 s", "main", "warning")
    assert "odd" in warned["event"]
    assert crashed["level"] == "critical" and "Traceback" in crashed["exception"]
    assert "secret" not in text and "\x1b" not in text


def test_without_a_log_a_failure_is_for_a_person() -> None:
    assert not tell_failure("x", "y")
