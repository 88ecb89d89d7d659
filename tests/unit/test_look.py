"""show, diff and log on a run that is done: for people at any width, for programs, and for hostile texts."""

import io
import json
import re
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from selfreward.store import Store
from selfreward.store.browse import Browse
from selfreward.terminal import diff, log, show, show_runs
from selfreward.terminal.blocks import Sheet, json_text, marked
from tests.commands import Done, selfreward
from tests.filled import ANSI, HOSTILE, HTML, hostile_prompt

SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def browse(done_run: Path) -> Browse:
    """The finished run, to read."""
    return Browse(Store("sqlite:///selfreward.db", done_run).database)


@pytest.fixture
def look(done_run: Path) -> Callable[..., Done]:
    """A command on the finished run."""
    return lambda *arguments: selfreward(*arguments, "--dir", str(done_run))


def on_terminal(
    print_it: Callable[[Sheet], None], width: int, full: bool = False, colours: bool = True
) -> str:
    """What a terminal of this width is sent."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=True,
        highlight=False,
        no_color=not colours,
        color_system="standard",
        _environ={},
    )
    print_it(Sheet(console=console, full=full))
    return out.getvalue()


def everything(browse: Browse, root: Path) -> dict[str, Callable[[Sheet], None]]:
    """Each thing that can be shown, of the texts that no reader may execute where there are any."""
    prompt = browse.prompt(1, hostile_prompt(root))
    assert prompt.pair is not None
    pair = browse.pair(prompt.pair.id)
    rows, summary = browse.answers_side_by_side(1, 2).rows, browse.answers_summary(1, 2)
    answer = replace(rows[0].first, text=HOSTILE)
    rows = (replace(rows[0], first=answer, prompt=HOSTILE), *rows[1:])
    iteration, checkpoint = browse.iteration(1, 2), browse.checkpoint(1, "M_2", root)
    event = replace(browse.events(1).rows[0], message=HOSTILE, kind=ANSI)
    return {
        "prompt": lambda sheet: show.show_prompt(prompt, sheet),
        "candidate": lambda sheet: show.show_candidate(prompt.candidates[0], sheet),
        "pair": lambda sheet: show.show_pair(pair, sheet),
        "iteration": lambda sheet: show_runs.show_iteration(iteration, sheet),
        "checkpoint": lambda sheet: show_runs.show_checkpoint(checkpoint, sheet),
        "diff": lambda sheet: diff.show_diff(("M_1", "M_2"), rows, summary, sheet),
        "log": lambda sheet: log.show_event(event, sheet),
    }


KINDS = ("prompt", "candidate", "pair", "iteration", "checkpoint", "diff", "log")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_obeyed(
    browse: Browse, done_run: Path, kind: str, width: int
) -> None:
    sent = on_terminal(everything(browse, done_run)[kind], width, full=True)
    assert SGR.search(sent), "it has styles"
    plain = SGR.sub("", sent)
    assert max(cell_len(line) for line in plain.split("\n")) <= width
    _assert_inert(plain)


@pytest.mark.parametrize("kind", KINDS)
def test_without_colour_there_are_none(browse: Browse, done_run: Path, kind: str) -> None:
    sent = on_terminal(everything(browse, done_run)[kind], 80, colours=False)
    assert not re.search(r"\x1b\[(\d+;)*(3|4|9|10)\d[;m]", sent)


def test_two_texts_stand_side_by_side_where_there_is_room(browse: Browse) -> None:
    def lines(width: int) -> list[str]:
        sent = SGR.sub("", on_terminal(lambda sheet: show.show_pair(browse.pair(3), sheet), width))
        return [line for line in sent.split("\n") if re.search(r"candidate \d+ chosen", line)]

    assert ["rejected" in line for line in (lines(120)[0], lines(80)[0], lines(60)[0])] == [True, True, False]


def test_words_that_differ_are_marked_in_both() -> None:
    old, new = marked("The quick brown fox jumps.", "The quick red fox jumps.")
    assert (old.plain, new.plain) == ("The quick brown fox jumps.", "The quick red fox jumps.")
    assert [(old.plain[span.start : span.end].strip(), span.style) for span in old.spans] == [
        ("brown", "bold red")
    ]
    assert [(new.plain[span.start : span.end].strip(), span.style) for span in new.spans] == [
        ("red", "bold green")
    ]
    assert not marked("entirely other words", "nothing of them here at all")[0].spans


def test_a_long_text_is_cut_unless_all_of_it_is_asked_for(browse: Browse) -> None:
    candidate = replace(browse.candidate(1), text="word " * 1_000 + "end")
    cut = SGR.sub("", on_terminal(lambda sheet: show.show_candidate(candidate, sheet), 80))
    assert "4,403 more characters: --full" in " ".join(cut.split()) and "end" not in cut.split()
    whole = on_terminal(lambda sheet: show.show_candidate(candidate, sheet), 80, full=True)
    assert "--full" not in whole and "end" in whole.split()


def test_a_pipe_gets_whole_lines_without_colours(look: Callable[..., Done], done_run: Path) -> None:
    prompt = hostile_prompt(done_run)
    for arguments in (
        ("show", "prompt", str(prompt)),
        ("show", "pair", "1"),
        ("show", "candidate", "1", "--full"),
        ("show", "iteration", "2"),
        ("show", "checkpoint", "M_2"),
        ("diff", "M_1", "M_2", "--limit", "50"),
        ("log",),
    ):
        done = look(*arguments)
        assert done.returncode == 0, done.stderr
        assert not any(line != line.rstrip() for line in done.stdout.split("\n"))
        _assert_inert(done.stdout)
    assert HTML in look("show", "pair", "1").stdout.replace("\n  ", "\n")


def test_commands_that_lead_on_lead_to_the_same_run(done_run: Path) -> None:
    done = selfreward("show", "iteration", "1", "--dir", str(done_run), "--run", "beta05")
    assert done.returncode == 0 and "run beta05" in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert f"selfreward show checkpoint M_2 --dir {done_run / 'forks' / 'beta05'}" in last
    assert "train.beta: 0.1 → 0.5" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told", "hint"),
    [
        (("show", "pair", "99999"), "there is no pair 99999", "Ids run from 1 to"),
        (("show", "prompt", "99999"), "there is no prompt 99999", "Ids run from 1 to"),
        (("show", "candidate", "99999"), "there is no candidate 99999", "Ids run from 1 to"),
        (("show", "iteration", "9"), "there is no iteration 9", "Iterations: 1, 2, 3."),
        (("show", "checkpoint", "M_9"), "no checkpoint 'M_9'", "Checkpoints: M_1, M_2, M_3."),
        (("show", "checkpoint", "\x1b[2J"), "no checkpoint '\\x1b[2J'", "Checkpoints"),
        (("diff", "M_1", "M_9"), "no checkpoint 'M_9'", "Checkpoints: M_1, M_2, M_3."),
        (("diff", "M_1", "M_1"), "compared with itself", "Name two checkpoints"),
        (("diff", "M_1", "M_2", "--prompt", "1"), "prompt 1 was not answered by both", "6 held-out prompts"),
        (("log", "--kind", "no such"), "is of kind 'no such'", "Kinds: evaluated, iteration"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    look: Callable[..., Done], arguments: tuple[str, ...], told: str, hint: str
) -> None:
    done = look(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert told in done.stderr and hint in done.stderr and "\x1b[2J" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("show", "pair", "x"), ("show", "pair", "-1"), ("show", "pair", str(2**70)), ("show", "thing")],
)
def test_what_is_no_id_is_refused(look: Callable[..., Done], arguments: tuple[str, ...]) -> None:
    assert look(*arguments).returncode == 2


def test_programs_get_what_is_stored(look: Callable[..., Done], done_run: Path) -> None:
    done = look("show", "pair", "1", "--json")
    pair: dict[str, Any] = json.loads(done.stdout)
    with closing(sqlite3.connect(done_run / "selfreward.db")) as connection:
        key = pair["chosen"]["id"]
        stored = connection.execute(f"SELECT text FROM candidate WHERE id = {key}").fetchone()[0]
    assert pair["chosen"]["text"] == stored and ANSI in stored
    scores = pair["pair"]["chosen_score"], pair["pair"]["rejected_score"]
    assert len(pair["chosen"]["judgements"]) == 3 and pair["pair"]["margin"] == scores[0] - scores[1]
    _assert_inert(done.stdout)
    for arguments in (
        ("show", "prompt", str(pair["prompt"]["id"])),
        ("show", "candidate", "1"),
        ("show", "iteration", "2"),
        ("show", "checkpoint", "M_2"),
    ):
        assert json.loads(look(*arguments, "--json").stdout)["id"]
    answers = json.loads(look("diff", "M_1", "M_2", "--json").stdout)
    assert (answers["first"], len(answers["prompts"]), answers["summary"]["prompts"]) == ("M_1", 5, 6)


def test_json_names_what_a_terminal_would_obey() -> None:
    text = "\x1b\x9b\u202e\U000e0001 and é 漢"
    written = json_text({"text": text})
    _assert_inert(written)
    assert json.loads(written) == {"text": text} and "é 漢" in written


def test_events_for_programs_are_an_object_a_line(look: Callable[..., Done]) -> None:
    lines = look("log", "--json", "--limit", "3").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["kind"] for event in events] == ["iteration_done", "evaluated", "stopped"]
    assert look("log", "--limit", "0").stdout == ""
    [only] = look("log", "--kind", "stopped").stdout.splitlines()
    assert "all iterations are done" in only


def test_a_log_that_is_followed_tells_what_comes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "POLL_S", 0.01)
    run = store.runs.ensure("main")
    store.journal.event(run.id, "started", "first")
    events = log.following(Browse(store.database), run.id, 0, ())
    assert next(events).message == "first"
    store.journal.event(run.id, "stopped", "second")
    assert next(events).message == "second"


def test_following_ends_with_ctrl_c(look: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(log.time, "sleep", interrupt)
    done = look("log", "--follow", "--limit", "1")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def _assert_inert(text: str) -> None:
    """No control character, no mark that turns the direction of text."""
    found = {char for char in text if char != "\n" and unicodedata.category(char) in {"Cc", "Cf", "Cs"}}
    assert not found
