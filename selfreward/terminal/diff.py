"""`selfreward diff M_1 M_2`: the same held-out prompts answered by both, and what judges made of them."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import RenderableType
from rich.text import Text

from selfreward.store.browse_answers import outcome
from selfreward.store.browsed import (
    AnswerDetail,
    AnswersRow,
    AnswersSummary,
    JudgedAnswers,
    VerdictRow,
)
from selfreward.terminal.blocks import DIM, GOOD, MARK, Sheet, heading, marked, number, plain
from selfreward.text import printable
from selfreward.types import Verdict


def show_diff(
    names: tuple[str, str], rows: Sequence[AnswersRow], summary: AnswersSummary, sheet: Sheet
) -> None:
    """Prompts with both answers, then the sums over all prompts that both have answered."""
    sheet.show(_diff(names, rows, summary, sheet))


def _diff(
    names: tuple[str, str], rows: Sequence[AnswersRow], summary: AnswersSummary, sheet: Sheet
) -> Iterator[RenderableType]:
    yield heading(f"{names[0]} and {names[1]}", f"{summary.prompts} held-out prompts answered by both")
    for row in rows:
        yield Text()
        yield heading(f"prompt {row.prompt_id}")
        yield sheet.block(plain(row.prompt))
        yield Text()
        yield from _answers(names, row, sheet)
        yield from _verdicts(names, row.verdicts)
    yield Text()
    yield from _sums(names, summary)
    if len(rows) < summary.prompts:
        left = summary.prompts - len(rows)
        yield Text(f"{left} more prompts: --limit {summary.prompts}, or one with --prompt ID", DIM)
    yield sheet.go_on(f"show checkpoint {names[0]}", f"show checkpoint {names[1]}")


def _answers(names: tuple[str, str], row: AnswersRow, sheet: Sheet) -> Iterator[RenderableType]:
    """In two columns where there is room, else below each other."""
    first, second = marked(row.first.text, row.second.text)
    heads = _head(names[0], row.first), _head(names[1], row.second)
    if sheet.two_columns:
        yield sheet.beside((heads[0], sheet.cut(first)), (heads[1], sheet.cut(second)))
        return
    for head, text in zip(heads, (first, second), strict=True):
        yield head
        yield sheet.block(text)


def _head(name: str, answer: AnswerDetail) -> Text:
    status = "" if answer.status == "ok" else f", {answer.status}"
    likely = "" if answer.mean_logprob is None else f", mean log-p {answer.mean_logprob:.2f}"
    return Text.assemble((printable(name), MARK), (f" · {answer.token_count:,} tokens{likely}{status}", DIM))


def _verdicts(names: tuple[str, str], verdicts: Sequence[VerdictRow]) -> Iterator[RenderableType]:
    """A line for each judge."""
    for judge, each in groupby(verdicts, key=lambda verdict: verdict.judged_by):
        mine = list(each)
        orders = ", ".join(_order(names, verdict) for verdict in mine)
        yield Text.assemble(
            f"{printable(judge)} prefers ", _preferred(names, outcome(mine)), (f" ({orders})", DIM)
        )


def _preferred(names: tuple[str, str], verdict: Verdict | None) -> Text:
    return (
        Text("neither", "yellow")
        if verdict is None
        else Text(printable(_name(names, verdict)), f"{MARK} {GOOD}")
    )


def _order(names: tuple[str, str], verdict: VerdictRow) -> str:
    """What it said when it saw one of them first."""
    said = "unreadable" if verdict.preferred is None else printable(_name(names, verdict.preferred))
    return f"{printable(_name(names, verdict.shown_first))} first: {said}{_sureness(verdict)}"


def _sureness(verdict: VerdictRow) -> str:
    """How sure it was of what it prefers: the probability is that of what it saw first."""
    if verdict.probability is None or verdict.preferred is None:
        return ""
    of_first = verdict.preferred is verdict.shown_first
    return f" at {verdict.probability if of_first else 1 - verdict.probability:.0%}"


def _name(names: tuple[str, str], verdict: Verdict) -> str:
    return names[0] if verdict is Verdict.FIRST else names[1]


def _sums(names: tuple[str, str], summary: AnswersSummary) -> Iterator[RenderableType]:
    same = f", {summary.same} word for word the same" if summary.same else ""
    yield Text.assemble(
        ("mean length ", DIM),
        f"{printable(names[0])} {number(summary.first_tokens, 1)} tokens, "
        f"{printable(names[1])} {number(summary.second_tokens, 1)} tokens{same}",
    )
    for judged in summary.judged:
        yield _sum(names, judged)
    if not summary.judged:
        yield Text("no judge has compared them: selfreward eval", DIM)


def _sum(names: tuple[str, str], judged: JudgedAnswers) -> Text:
    return Text.assemble(
        (f"{printable(judged.judged_by)} prefers ", DIM),
        f"{printable(names[0])} in {judged.first}, {printable(names[1])} in {judged.second}, "
        f"neither in {judged.undecided}",
    )
