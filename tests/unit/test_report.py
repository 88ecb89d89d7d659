"""What `selfreward report` shows: on a terminal, as JSON, as a page with plots, and for AlpacaEval."""

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from selfreward.errors import BadInput
from selfreward.exports.alpaca import alpaca_outputs, write_outputs
from selfreward.report.data import Change, assistant_figures
from selfreward.report.metrics import JUDGE_FIGURES
from selfreward.report.showing import ReportData, as_json, print_report, write_report
from selfreward.types import (
    CheckpointKind,
    CheckpointRow,
    EvaluationRow,
    Gate,
    GateResult,
    GateState,
    Metric,
    Suite,
)

ACCURACY = next(one for one in JUDGE_FIGURES if one.metric is Metric.PAIRWISE_ACCURACY)
STEMS = ("judge_accuracy", "judge_paper_metrics", "win_rates", "answer_length", "score_histograms")


def checkpoint(
    key: int, version: int, kind: CheckpointKind, parent: int | None, name: str = ""
) -> CheckpointRow:
    return CheckpointRow(
        id=key,
        run_id=1,
        version=version,
        name=name or f"M_{version}",
        kind=kind,
        path="x",
        digest="0" * 64,
        parent_id=parent,
    )


def figure(
    name: str, metric: Metric, *numbers: float | None, n: int = 120, suite: Suite = Suite.JUDGE
) -> EvaluationRow:
    value, low, high = numbers or (None, None, None)
    return EvaluationRow(checkpoint=name, suite=suite, metric=metric, value=value, low=low, high=high, n=n)


LINE = (
    checkpoint(1, 0, CheckpointKind.BASE, None),
    checkpoint(2, 0, CheckpointKind.SFT, 1, "M_0_ift"),
    checkpoint(3, 1, CheckpointKind.SFT, 1),
    checkpoint(4, 2, CheckpointKind.DPO, 3),
)
ROWS = (
    figure("M_0", Metric.READABLE_SHARE, 0.042, 0.021, 0.08, n=240),
    figure("M_0", Metric.PAIRWISE_ACCURACY, 0.5, 0.1, 0.9, n=3),
    figure("M_0", Metric.FIVE_BEST, n=0),
    figure("M_0_ift", Metric.READABLE_SHARE, 0.61, 0.55, 0.67, n=240),
    figure("M_1", Metric.READABLE_SHARE, 1.0, 0.98, 1.0, n=240),
    figure("M_1", Metric.PAIRWISE_ACCURACY, 0.5512, 0.5, 0.6),
    figure("M_1", Metric.SPEARMAN, -0.004, -0.2, 0.11, n=40),
    figure("M_2", Metric.PAIRWISE_ACCURACY, 0.649, 0.601, 0.7),
    figure("M_2", Metric.WIN_RATE_PREVIOUS, 0.4, 0.31, 0.49, n=50, suite=Suite.ASSISTANT),
    figure("M_2", Metric.WIN_RATE_PREVIOUS, 0.52, 0.4, 0.64, n=50, suite=Suite.INDEPENDENT),
    figure("M_2", Metric.MEAN_LENGTH, 1234.5, 1000.0, 1499.6, n=50, suite=Suite.ASSISTANT),
)
WARNED = GateResult(
    gate=Gate.LENGTH_GROWTH,
    state=GateState.WARN,
    value=2.6,
    limit=2.5,
    message="2.6 times as long;\ntry shorter",
)
PASSED = GateResult(gate=Gate.SPREAD, state=GateState.OK, value=1.0, limit=0.1, message="fine")


def report(**changed: object) -> ReportData:
    told: dict[str, object] = {
        "run": "demo",
        "rows": ROWS,
        "checkpoints": LINE,
        "pairs": {1: 48, 2: 51},
        "gates": ((1, PASSED), (2, WARNED), (2, PASSED)),
        "score_histogram": {"M_1": {0: 1, 3: 8, 5: 4}, "M_0": {}},
    }
    return ReportData(**{**told, **changed})  # type: ignore[arg-type]


def many(count: int) -> ReportData:
    line = [checkpoint(t + 1, t, CheckpointKind.DPO, t or None) for t in range(count)]
    rows = [figure(one.name, Metric.PAIRWISE_ACCURACY, 0.5, 0.4, 0.6) for one in line]
    return report(checkpoints=line, rows=rows)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a report, written once: drawing takes seconds."""
    return write_report(report(), tmp_path_factory.mktemp("written") / "new" / "report")


def printed(data: ReportData, width: int = 10_000, terminal: bool = False) -> str:
    shown = io.StringIO()
    print_report(data, Console(file=shown, width=width, force_terminal=terminal, color_system=None))
    return shown.getvalue()


def cells(text: str, label: str) -> list[str]:
    """The line of `label` and the one below it, as the words of both."""
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(label))
    return [" ".join(line.split()) for line in lines[place : place + 2]]


def test_each_figure_stands_with_its_interval_and_n_and_what_was_not_measured_is_a_dash() -> None:
    text = printed(report())
    assert cells(text, "readable") == [
        "readable 4.2 n 240 61.0 ▲ n 240 100 ▲ n 240 –",
        "% of judgements [2.1–8.0] [55.0–67.0] [98.0–100]",
    ]
    assert cells(text, "5-best")[0] == "5-best – – – –"
    assert cells(text, "Spearman") == ["Spearman – – 0.00 n 40 –", "mean correlation [−0.20,0.11]"]
    assert cells(text, "mean length") == ["mean length – – – 1234 n 50", "characters [1000–1500]"]


def test_an_arrow_needs_intervals_apart_from_those_of_the_model_before() -> None:
    text = printed(report())
    assert cells(text, "pairwise accuracy")[0] == "pairwise accuracy 50.0 n 3 – 55.1 n 120 64.9 ▲ n 120"
    touching = [*ROWS[:-4], figure("M_2", Metric.PAIRWISE_ACCURACY, 0.649, 0.6, 0.7)]
    assert "64.9 n 120" in cells(printed(report(rows=touching)), "pairwise accuracy")[0]


def test_m_1_is_held_against_m_0_and_not_against_the_baseline_beside_the_line() -> None:
    rows = [
        figure("M_0", Metric.PAIRWISE_ACCURACY, 0.3, 0.2, 0.4),
        figure("M_0_ift", Metric.PAIRWISE_ACCURACY, 0.6, 0.5, 0.7),
        figure("M_1", Metric.PAIRWISE_ACCURACY, 0.6, 0.5, 0.7),
    ]
    data = report(rows=rows)
    assert [data.change(one, ACCURACY) for one in LINE] == [None, Change.HIGHER, Change.HIGHER, None]


def test_a_win_rate_is_held_against_a_half() -> None:
    by_itself, independent = printed(report()).split("win rate vs M_t−1")[1:3]
    assert "40.0 ▼ n 50" in by_itself and "[31.0–49.0]" in by_itself
    assert "52.0 n 50" in independent and "independent judge" in independent


def test_a_run_without_an_independent_judge_has_no_line_for_one() -> None:
    rows = [row for row in ROWS if row.suite is not Suite.INDEPENDENT]
    assert "independent" not in printed(report(rows=rows))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_an_arrow_means_that_no_number_is_in_both_intervals(ends: list[float]) -> None:
    (low, high), (other_low, other_high) = sorted(ends[:2]), sorted(ends[2:])
    rows = [
        figure("M_1", Metric.PAIRWISE_ACCURACY, other_low, other_low, other_high),
        figure("M_2", Metric.PAIRWISE_ACCURACY, low, low, high),
    ]
    change = report(rows=rows).change(LINE[3], ACCURACY)
    common = max(low, other_low) <= min(high, other_high)
    assert change is (None if common else Change.HIGHER if low > other_high else Change.LOWER)


def test_the_run_table_tells_where_each_came_from_and_which_gates_warned() -> None:
    text = printed(report())
    assert cells(text, "kind")[0] == "kind base sft sft dpo"
    assert cells(text, "trained from")[0] == "trained from – M_0 M_0 M_1"
    assert cells(text, "on preference pairs")[0] == "on preference pairs – – – 48"
    assert cells(text, "gates that warned")[0] == "gates that warned – – 0 of 1 1 of 2"
    assert "M_2, gate length_growth: warn: 2.6 times as long; try shorter" in text


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("count", [1, 4, 6, 13])
def test_a_terminal_is_never_too_narrow_and_is_told_what_is_missing(width: int, count: int) -> None:
    text = printed(many(count), width, terminal=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.split("Too wide")[0] or "Too wide for this terminal: M_" in text
    header = next(line for line in text.splitlines() if line.startswith("As a judge")).split()[3:]
    missing = {f"M_{t}" for t in range(count)} - set(header)
    told = text.partition("Too wide for this terminal: ")[2].partition(". ")[0]
    assert missing == set(told.replace("\n", " ").replace(",", " ").split())
    assert {"M_0", f"M_{count - 1}"} <= set(header)


def test_the_usual_run_fits_a_hundred_columns_and_the_baseline_goes_first_when_it_does_not() -> None:
    assert "Too wide" not in printed(report(), 100, terminal=True)
    assert "Too wide for this terminal: M_0_ift." in printed(report(), 70, terminal=True)


def test_without_a_terminal_all_checkpoints_are_there_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(many(13))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    header = next(line for line in text.splitlines() if line.startswith("As a judge"))
    assert header.split()[3:] == [f"M_{t}" for t in range(13)]


def test_names_are_shown_and_not_obeyed() -> None:
    odd = [checkpoint(1, 0, CheckpointKind.BASE, None, "[red]x|\x1b[2J")]
    data = report(checkpoints=odd, rows=[figure(odd[0].name, Metric.READABLE_SHARE, 0.5, 0.4, 0.6)])
    assert "[red]x|\\x1b[2J" in printed(data)


def test_json_says_the_same_and_survives_a_round_trip() -> None:
    told = json.loads(json.dumps(as_json(report()), allow_nan=False))
    assert told["run"] == "demo" and [one["name"] for one in told["checkpoints"]] == [
        "M_0",
        "M_0_ift",
        "M_1",
        "M_2",
    ]
    first, _, m1, m2 = told["checkpoints"]
    assert first["judge"]["five_best"] == {"value": None, "low": None, "high": None, "n": 0, "change": None}
    assert first["parent"] is None and first["pairs"] is None and first["assistant"] == {}
    assert m1["score_histogram"] == {"0": 1, "3": 8, "5": 4}
    assert m2["parent"] == "M_1" and m2["pairs"] == 48 and m2["kind"] == "dpo"
    assert m2["judge"]["pairwise_accuracy"] == {
        "value": 0.649,
        "low": 0.601,
        "high": 0.7,
        "n": 120,
        "change": "higher",
    }
    assert m2["assistant"]["win_rate_previous"]["change"] == "lower"
    assert m2["assistant_independent"]["win_rate_previous"]["value"] == 0.52
    assert told["pairs"] == {"1": 48, "2": 51}
    assert told["gates"][1] == {
        "iteration": 2,
        "gate": "length_growth",
        "state": "warn",
        "value": 2.6,
        "limit": 2.5,
        "message": "2.6 times as long;\ntry shorter",
    }


def test_the_page_has_the_figures_the_images_and_what_each_metric_is(written: list[Path]) -> None:
    page = written[0].read_text(encoding="utf-8")
    assert written[0].name == "report.md"
    assert (
        "| pairwise accuracy (% of reply pairs) | 50.0 [10.0–90.0] (n 3) | – | 55.1 [50.0–60.0] (n 120) | "
        in page
    )
    assert "64.9 [60.1–70.0] (n 120) ▲ |" in page and "[−0.20, 0.11]" in page
    for described in (*JUDGE_FIGURES, *assistant_figures(report())):
        assert f"**{described.label} ({described.unit}).**" in page
    assert all(f"]({stem}.png)" in page for stem in STEMS)
    widths = {line.count("|") for line in page.splitlines() if line.startswith("|")}
    assert widths == {len(LINE) + 2}


def test_a_pipe_in_a_name_stays_in_its_cell(tmp_path: Path) -> None:
    odd = [checkpoint(1, 0, CheckpointKind.BASE, None, "a|b<i>*\n$x$ $y$")]
    data = report(
        run="x|`y`", checkpoints=odd, rows=[figure(odd[0].name, Metric.READABLE_SHARE, 0.5, 0.4, 0.6)]
    )
    files = write_report(data, tmp_path)
    page = files[0].read_text(encoding="utf-8")
    assert r"|  | a\|b\<i\>\* $x$ $y$ |" in page and r"run x\|\`y\`" in page
    assert "a|b<i>* $x$…" in svg_texts(tmp_path / "judge_accuracy.svg")


def svg_texts(path: Path) -> set[str]:
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return {"".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_plots_are_valid_files_with_their_labels(written: list[Path]) -> None:
    folder = written[0].parent
    assert [path.name for path in written[1:]] == [
        f"{stem}.{kind}" for stem in STEMS for kind in ("png", "svg")
    ]
    assert sorted(written) == sorted(folder.iterdir())  # nothing half-written is left behind
    for path in written[1:]:
        if path.suffix == ".png":
            head = path.read_bytes()[:24]
            width, height = struct.unpack(">II", head[16:])
            assert head.startswith(b"\x89PNG\r\n\x1a\n") and width > 800 and height > 400
    assert {"M_0", "M_0_ift", "M_2", "pairwise accuracy", "chance"} <= svg_texts(
        folder / "judge_accuracy.svg"
    )
    assert {"Kendall τ", "5-best", "exact match"} <= svg_texts(folder / "judge_paper_metrics.svg")
    assert {"judged by itself", "an independent judge", "no difference"} <= svg_texts(
        folder / "win_rates.svg"
    )
    assert {"M_1 · n 13", "M_0 · n 0", "none readable"} <= svg_texts(folder / "score_histograms.svg")


@pytest.mark.parametrize("count", [1, 12])
def test_one_checkpoint_and_twelve_are_drawn_and_what_nobody_measured_is_not(
    tmp_path: Path, count: int
) -> None:
    data = report(checkpoints=many(count).checkpoints, rows=many(count).rows, score_histogram={})
    files = write_report(data, tmp_path)
    assert {path.stem for path in files[1:]} == {"judge_accuracy", "judge_paper_metrics"}
    assert {f"M_{t}" for t in range(count)} <= svg_texts(tmp_path / "judge_accuracy.svg")
    assert "win_rates.png" not in files[0].read_text(encoding="utf-8")


def test_the_same_data_gives_the_same_bytes(tmp_path: Path, written: list[Path]) -> None:
    again = write_report(report(), tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_figures_alone_without_any_interval_are_shown(tmp_path: Path) -> None:
    data = report(rows=[figure("M_1", Metric.PAIRWISE_ACCURACY, 0.5, None, None)], score_histogram={})
    assert cells(printed(data), "pairwise accuracy") == [
        "pairwise accuracy – – 50.0 n 120 –",
        "% of reply pairs",
    ]
    assert write_report(data, tmp_path)


def test_nothing_evaluated_is_said_with_what_to_do() -> None:
    with pytest.raises(BadInput, match="nothing has been evaluated yet") as raised:
        report(rows=())
    assert "selfreward eval" in raised.value.hint


def test_a_report_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write the report to"):
        write_report(report(), tmp_path / "file")


def test_a_report_on_the_terminal_needs_no_matplotlib() -> None:
    modules = "selfreward.report.showing, selfreward.report.plots"
    code = f"import sys, {modules}; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_answers_are_written_as_alpaca_eval_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model_outputs.json"
    write_outputs(path, alpaca_outputs([("Why?", "Because “so”.\n"), ("How?", "")], "demo/M_2", "held_out"))
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"dataset": "held_out", "instruction": "Why?", "output": "Because “so”.\n", "generator": "demo/M_2"},
        {"dataset": "held_out", "instruction": "How?", "output": "", "generator": "demo/M_2"},
    ]
    assert list(path.parent.iterdir()) == [path]


def test_no_answers_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no answers"):
        write_outputs(tmp_path / "x.json", [])
    assert not list(tmp_path.iterdir())
