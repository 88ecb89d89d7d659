"""The status screen: every width and height, hostile texts, terminals that show little."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from selfreward.progress import (
    Activity,
    Histogram,
    Mood,
    RunStatus,
    StageProgress,
    TokenRates,
    TrainingProgress,
)
from selfreward.store.progress import EngineSessionRow
from selfreward.terminal.drawing import bar, clock, column, count, rate, sparkline
from selfreward.terminal.screen import Screen, lines
from selfreward.types import (
    CheckpointKind,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    Gate,
    GateResult,
    GateState,
    IterationRow,
    LeaseRow,
    Metric,
    PairOutcome,
    StageName,
    Status,
    Suite,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]markup[/] \u202egnp.exe\u202c\r\nsecond line\t日本語" + "x" * 500
ESCAPES = ("\x1b", "\x07", "\u202e", "\r")


def a_stage(name: StageName, status: Status, done: int, total: int | None, **more: object) -> StageProgress:
    return StageProgress(name=name, status=status, done=done, total=total, **more)  # type: ignore[arg-type]


STAGES = (
    a_stage(
        StageName.SELF_INSTRUCT, Status.DONE, 25_000, 25_000, unit="prompts", detail=HOSTILE, seconds=4000.0
    ),
    a_stage(StageName.SAMPLE, Status.DONE, 100_000, 100_000, unit="candidates", stage_rate=27.1, seconds=9e4),
    a_stage(
        StageName.JUDGE,
        Status.RUNNING,
        123_456,
        300_000,
        unit="judgements",
        rate=41.25,
        stage_rate=38.0,
        seconds_left=4280.0,
    ),
    a_stage(StageName.COMPARE_INDEPENDENT, Status.RUNNING, 3, None),
    a_stage(StageName.PAIR, Status.FAILED, 0, 25_000, unit="prompts", error=HOSTILE),
    a_stage(StageName.TRAIN, Status.PENDING, 0, None, unit="steps"),
)
CURVE = tuple((step, 0.7 - step / 1000) for step in range(1, 200))


def a_status(**changes: object) -> RunStatus:
    """A run in the middle of everything, with whatever a model can write wherever it can stand."""
    status = RunStatus(
        run="main",
        at=NOW,
        forked_from="other",
        from_iteration=1,
        running=True,
        activity=Activity(mood=Mood.RESTING, reason=HOSTILE, remedy="let it pass: selfreward resume"),
        lease=LeaseRow(run_id=1, owner="host:123", fence=2, heartbeat_at=NOW, released=False),
        started_at=NOW - timedelta(days=3),
        uptime_s=3 * 86400 + 4 * 3600,
        iteration=IterationRow(
            id=2,
            run_id=1,
            t=2,
            checkpoint_id=2,
            setting_hash="0",
            data_iteration_id=2,
            status=Status.RUNNING,
        ),
        stages=STAGES,
        details=(),
        engine=EngineSessionRow(
            id=1,
            engine="vllm",
            checkpoint="M_2",
            seed=1,
            started_at=NOW - timedelta(hours=2),
            ready_at=NOW - timedelta(hours=1),
            finished_at=None,
            prompt_tokens=1,
            generated_tokens=1,
        ),
        engine_sessions=2,
        tokens_per_second=TokenRates(generated=812.4, prompt=3412.0),
        histogram=Histogram(scores=(10, 0, 900, 3000, 60_000, 5), unreadable=700, mean=3.9),
        pairs={PairOutcome.PAIRED: 20_000, PairOutcome.TIE: 4000, PairOutcome.BELOW_MARGIN: 1000},
        training=TrainingProgress(stage=StageName.TRAIN, steps=199, loss=CURVE, margin=CURVE, accuracy=CURVE),
        gates=(
            GateResult(gate=Gate.SPREAD, state=GateState.OK, value=1.0, limit=0.1, message="fine"),
            GateResult(gate=Gate.TIE_SHARE, state=GateState.PAUSE, value=0.95, limit=0.9, message=HOSTILE),
        ),
        evaluation=(
            EvaluationRow(
                checkpoint="M_3",
                suite=Suite.JUDGE,
                metric=Metric.PAIRWISE_ACCURACY,
                value=0.571,
                low=0.5,
                high=0.637,
                n=240,
            ),
        ),
        checkpoints=tuple(
            CheckpointRow(
                id=version,
                run_id=1,
                version=version,
                name=f"M_{version}",
                kind=CheckpointKind.DPO,
                path=f"models/M_{version}",
                digest="0" * 64,
                parent_id=None,
            )
            for version in range(1, 40)
        ),
        events=tuple(
            EventRow(id=place, at=NOW, kind="failed", message=HOSTILE, data={}) for place in range(20)
        ),
    )
    return replace(status, **changes)  # type: ignore[arg-type]


def drawn(screen: Screen, width: int, height: int = 50, encoding: str = "utf-8") -> str:
    """What a terminal of this size is sent, colours included."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system="truecolor")
    console.print(screen)
    file.flush()
    return raw.getvalue().decode(encoding)


def without_styles(text: str) -> list[str]:
    return Text.from_ansi(text).plain.splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 250])
@pytest.mark.parametrize("height", [1, 3, 8, 15, 24, 50, 100])
def test_it_fits_into_every_terminal(width: int, height: int) -> None:
    screen = Screen(status=a_status(), fitted=True, above=Text("above"), below=Text("below"))
    shown = without_styles(drawn(screen, width, height))
    assert len(shown) <= max(height, 3)
    assert all(cell_len(line) <= width for line in shown)
    assert shown[0].startswith("above") and shown[1].startswith("main") and shown[-1].startswith("below")


@pytest.mark.parametrize("height", [10, 15, 24])
def test_what_counts_now_stays_longest(height: int) -> None:
    shown = "\n".join(without_styles(drawn(Screen(status=a_status(), fitted=True), 80, height)))
    assert "resting" in shown and "selfreward resume" in shown
    assert "judge" in shown and "123,456/300,000" in shown and "1:11:20" in shown


def test_with_room_everything_is_there() -> None:
    shown = "\n".join(without_styles(drawn(Screen(status=a_status()), 120)))
    for told in (
        "main  resting",
        "up 3 d 4:00",
        "iteration 2  M_2 → M_3",
        "fork of other from 1",
        "host:123",
        "41.2/s",
        "41%",
        "38.0/s over all of it",
        "812 tokens/s written",
        "3,412 read",
        "started 2 times",
        "64,615 judgements · mean 3.90 · 1% unreadable",
        "20,000 of 25,000 prompts (80%) · tie 4,000 · below margin 1,000",
        "0.699",
        "0.501",
        "1 of 2 ok · tie_share: pause",
        "accuracy 57% [50–64] n 240",
        "models/M_39",
    ):
        assert told in shown, told
    assert shown.count("01-02 03:04:05 failed:") >= 5


@pytest.mark.parametrize("width", [60, 120])
def test_nothing_that_a_model_wrote_reaches_the_terminal_as_a_command(width: int) -> None:
    sent = drawn(Screen(status=a_status()), width)
    styled = Text.from_ansi(sent).plain
    assert "\\x1b[2J" in styled and "[bold red]markup[/]" in styled
    assert not [mark for mark in ESCAPES if mark in styled]
    assert "\x1b[2J" not in sent and "\x1b]0" not in sent and "\u202e" not in sent


def test_a_terminal_of_ascii_gets_ascii() -> None:
    sent = drawn(Screen(status=a_status()), 80, encoding="ascii")
    assert "M_2 > M_3" in sent and "123,456/300,000" in sent


def test_no_color_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in drawn(Screen(status=a_status()), 80)
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[3" in drawn(Screen(status=a_status()), 80)


def test_a_run_that_has_only_begun_is_shown() -> None:
    bare = a_status(
        iteration=None,
        stages=(),
        engine=None,
        histogram=Histogram(),
        pairs={},
        training=None,
        gates=(),
        evaluation=(),
        checkpoints=(),
        events=(),
        lease=None,
        uptime_s=None,
        activity=Activity(mood=Mood.RUNNING),
    )
    assert [line.plain.split()[0] for line in lines(Screen(status=bare), 80, None)] == ["main", "no"]


def test_an_engine_that_starts_is_told() -> None:
    starting = replace(a_status().engine, ready_at=None)  # type: ignore[type-var]
    shown = "\n".join(line.plain for line in lines(Screen(status=a_status(engine=starting)), 80, None))
    assert "vllm on M_2 is starting, for 2:00:00" in shown


def test_figures_are_short_and_can_be_read() -> None:
    assert [rate(each) for each in (None, 0.0, 0.001, 0.5, 41.25, 812.4, 123_456.0)] == [
        "",
        "0/s",
        "3.6/h",
        "30.0/min",
        "41.2/s",
        "812/s",
        "123k/s",
    ]
    assert [clock(each) for each in (None, 7, 247, 7020, 273_600)] == [
        "",
        "0:07",
        "4:07",
        "1:57:00",
        "3 d 4:00",
    ]
    assert [count(each, short=True) for each in (9_999, 12_345, 300_000, 3_000_000)] == [
        "9,999",
        "12.3k",
        "300k",
        "3.0M",
    ]


def test_bars_and_curves_keep_their_size() -> None:
    assert [len(done) + len(rest) for done, rest in (bar(part, 10, 8) for part in (0, 3, 10, 30))] == [8] * 4
    assert bar(5, None, 8) == bar(5, 0, 8) == ("", "─" * 8)
    assert sparkline([1.0, 2.0, 3.0], 10) == "▁▅█" and sparkline([], 10) == ""
    assert len(sparkline([float(each) for each in range(1000)], 10)) == 10
    assert sparkline([2.0, 2.0], 10) == "▄▄" and sparkline([float("nan"), 1.0], 4) == "▄"
    assert column(1, 1000, 3) == [" ", " ", "▁"] and column(1000, 1000, 3) == ["█"] * 3
    assert column(0, 0, 2) == [" ", " "]
