"""Progress as a person sees it and as a log keeps it."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog
from rich.console import Console

from selfreward.reporting import LogReporter, TerminalReporter, configure_logging
from selfreward.types import StageName


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_log_lines_are_json_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    reporter = LogReporter({"run": "main"})
    reporter.begin(StageName.SAMPLE, 10, 100)
    reporter.progress(StageName.SAMPLE, 30)
    reporter.progress(StageName.SAMPLE, 31)
    reporter.end(StageName.SAMPLE, "100 candidates (100 ok)")
    reporter.say("line one\nline two", figure=3)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == [
        "stage started",
        "progress",
        "stage done",
        "line one\nline two",
    ]
    assert all(line["run"] == "main" and line["timestamp"].endswith("Z") for line in lines)
    progress = lines[1]
    assert (progress["stage"], progress["done"], progress["total"]) == ("sample", 30, 100)
    assert progress["per_second"] > 0 and progress["seconds_left"] >= 0


def test_the_terminal_shows_bars_and_never_obeys_markup() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=True, color_system=None)
    with TerminalReporter(console, "selfreward · main") as reporter:
        reporter.begin(StageName.SAMPLE, 0, 4)
        reporter.progress(StageName.SAMPLE, 3)
        reporter.begin(StageName.TRAIN, 0, 10)
        reporter.progress(StageName.TRAIN, 2, loss=0.6931)
        reporter.end(StageName.SAMPLE, "[bold]4[/bold] candidates")
        reporter.say("[link=x]not a link[/link]")
    text = shown.getvalue()
    assert "[bold]4[/bold] candidates" in text and "[link=x]not a link[/link]" in text
    assert "loss 0.6931" in text and "2/10" in text


def test_a_stage_that_ends_before_it_began_on_screen_is_told() -> None:
    shown = io.StringIO()
    with TerminalReporter(Console(file=shown, width=40), "x") as reporter:
        reporter.end(StageName.TRAIN, "M_2 adopted")
    assert "train: M_2 adopted" in shown.getvalue()
