"""`selfreward show prompt|candidate|pair`: texts, scores, judgements, and the ids to go on with."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from selfreward.store.browsed import (
    CandidateDetail,
    DecisionRow,
    JudgementDetail,
    PairDetail,
    PairRow,
    PromptDetail,
    PromptRef,
)
from selfreward.terminal.blocks import (
    BAD,
    DIM,
    GOOD,
    MARK,
    Sheet,
    columns,
    facts,
    heading,
    marked,
    number,
    plain,
)
from selfreward.text import printable
from selfreward.types import PromptSource

STYLES = {"chosen": GOOD, "rejected": BAD, "both": "yellow"}
WORDS = {"both": "chosen and rejected"}
OWN = "ai"


def show_prompt(prompt: PromptDetail, sheet: Sheet) -> None:
    """A prompt with where it comes from, what became of it, and its candidates."""
    sheet.show(_prompt(prompt, sheet))


def show_candidate(candidate: CandidateDetail, sheet: Sheet) -> None:
    """A candidate and its judgements."""
    sheet.show(_one_candidate(candidate, sheet))


def show_pair(detail: PairDetail, sheet: Sheet) -> None:
    """A pair: the prompt, chosen and rejected beside each other, and what the judge said of both."""
    sheet.show(_pair(detail, sheet))


def _prompt(prompt: PromptDetail, sheet: Sheet) -> Iterator[RenderableType]:
    where = f"run {prompt.run}" + ("" if prompt.t is None else f", iteration {prompt.t}")
    yield heading(f"prompt {prompt.id}", where, _by(prompt), prompt.status)
    yield sheet.block(plain(prompt.text))
    yield Text()
    yield facts(_about(prompt, sheet))
    pairs = [pair.id for pair in prompt.pairs]
    for candidate in prompt.candidates:
        yield Text()
        yield from _candidate(candidate, candidate.role_in(*pairs), sheet)
    if commands := list(_commands_of(prompt)):
        yield Text()
        yield sheet.go_on(*commands)


def _by(prompt: PromptDetail) -> str:
    """Who wrote it, or where it comes from."""
    if prompt.source in (PromptSource.SEED, PromptSource.IMPORTED):
        what = "seed of" if prompt.source is PromptSource.SEED else "imported from"
        return f"{what} {prompt.origin or 'this run'}"
    return f"written by {prompt.written_by or 'a model'}"


def _about(prompt: PromptDetail, sheet: Sheet) -> Iterator[tuple[str, RenderableType | None]]:
    yield "rejected", plain(prompt.reject_reason) if prompt.reject_reason else None
    yield "outcome", _outcome(prompt.decision) if prompt.decision else None
    yield "judged by", plain(prompt.judged_by) if prompt.judged_by and prompt.candidates else None
    yield "trained", Text("\n").join(plain(_trained(pair)) for pair in prompt.pairs) if prompt.pairs else None
    yield "nearest", _nearest(prompt, sheet)
    yield "shown", _list(prompt.demonstrations, sheet) if prompt.demonstrations else None
    yield "reference", sheet.cut(plain(prompt.reference)) if prompt.reference else None
    others = [used for used in prompt.used_by if prompt.decision is None or used != prompt.decision]
    yield "also in", Text("\n").join(_elsewhere(used) for used in others) if others else None


def _outcome(decision: DecisionRow) -> Text:
    told = Text(decision.outcome, style=GOOD if decision.pair_id else "yellow")
    if decision.best_score is not None:
        told.append(f" best {number(decision.best_score)}, worst {number(decision.worst_score)}", DIM)
    return told


def _trained(pair: PairRow) -> str:
    if pair.excluded:
        return f"pair {pair.id} was left out: {pair.excluded}"
    origin = "" if pair.origin == OWN else f", imported from {pair.origin}"
    return f"{pair.trained or 'not yet trained'} with pair {pair.id}, margin {number(pair.margin)}{origin}"


def _nearest(prompt: PromptDetail, sheet: Sheet) -> Text | None:
    if prompt.nearest is None:
        return None
    likeness = f" ROUGE-L {number(prompt.nearest_rouge_l)} "
    return Text.assemble(str(prompt.nearest.id), (likeness, DIM), sheet.line(prompt.nearest.text))


def _list(prompts: Sequence[PromptRef], sheet: Sheet) -> Text:
    """Demonstrations, a line each; on a terminal of little height only their ids."""
    if not sheet.full and not sheet.piped:
        return Text(", ".join(str(prompt.id) for prompt in prompts))
    return Text("\n").join(Text.assemble(f"{prompt.id} ", sheet.line(prompt.text)) for prompt in prompts)


def _elsewhere(used: DecisionRow) -> Text:
    more = f" and {used.pairs - 1} more" if used.pairs > 1 else ""
    pair = f", pair {used.pair_id}{more}" if used.pair_id else ""
    return plain(f"{used.run}, iteration {used.t}: {used.outcome}{pair}")


def _commands_of(prompt: PromptDetail) -> Iterator[str]:
    if prompt.pair:
        yield f"show pair {prompt.pair.id}"
    if prompt.candidates:
        yield f"show candidate {prompt.candidates[0].id}"
    elif prompt.nearest:
        yield f"show prompt {prompt.nearest.id}"


def _candidate(candidate: CandidateDetail, role: str, sheet: Sheet) -> Iterator[RenderableType]:
    yield _title(candidate, role)
    yield sheet.block(plain(candidate.text))
    yield from _judgements(candidate.judgements, sheet)


def _title(candidate: CandidateDetail, role: str, told: str = " · ") -> Text:
    """Number and role, then score and length, with `told` between them."""
    title = Text.assemble((f"candidate {candidate.id}", MARK))
    if role != "other":
        title.append(f" {WORDS.get(role, role)}", f"{MARK} {STYLES[role]}")
    if candidate.anchor:
        title.append(f" by {printable(candidate.written_by or '')}", DIM)
    return title.append(f"{told}{_score(candidate)} · {_length(candidate)}", DIM)


def _score(candidate: CandidateDetail) -> str:
    """The mean and what it is of."""
    scores = " ".join(f"{score:g}" for score in candidate.scores)
    return f"score {number(candidate.mean_score)}" + (f" ({scores})" if len(candidate.scores) > 1 else "")


def _length(candidate: CandidateDetail) -> str:
    status = "" if candidate.status == "ok" else f" {candidate.status}"
    return f"{candidate.token_count:,} tokens{status}"


def _judgements(judgements: Sequence[JudgementDetail], sheet: Sheet) -> Iterator[RenderableType]:
    """A line each; the whole texts with --full."""
    if not judgements:
        yield sheet.block(Text("not judged", DIM))
        return
    if not sheet.full:
        table = columns("", "judgement", "by", "score", "how it ends", numbers=("judgement", "score"))
        taken = max(len(row.judged_by) + len(str(row.score or row.status)) for row in judgements) + 22
        for row in judgements:
            table.add_row("", str(row.id), plain(row.judged_by), _read(row), sheet.end(row.raw_text, taken))
        yield table
        return
    for row in judgements:
        yield Text.assemble(
            (f"  judgement {row.id}", MARK), (f" by {printable(row.judged_by)}: ", DIM), _read(row)
        )
        yield sheet.block(plain(row.raw_text))


def _read(row: JudgementDetail) -> Text:
    """The score, or why there is none."""
    return Text(row.status, "yellow") if row.score is None else Text(f"{row.score:g}")


def _one_candidate(candidate: CandidateDetail, sheet: Sheet) -> Iterator[RenderableType]:
    where = f"run {candidate.run}" + ("" if candidate.t is None else f", iteration {candidate.t}")
    answers = f"answer {candidate.index} to prompt {candidate.prompt_id}"
    by = f"written by {candidate.written_by}" if candidate.written_by else "imported"
    yield heading(f"candidate {candidate.id}", answers, where, by)
    yield facts(
        [
            ("score", Text(_score(candidate).removeprefix("score "))),
            ("length", Text(f"{_length(candidate)}, finish reason {printable(candidate.finish_reason)}")),
            ("mean log-p", Text(f"{number(candidate.mean_logprob, 3)} nats a token")),
            ("pairs", _pairs_of(candidate) if candidate.pairs else None),
        ]
    )
    yield Text()
    yield sheet.block(plain(candidate.text))
    yield Text()
    yield from _judgements(candidate.judgements, sheet)
    yield Text()
    pair = [f"show pair {candidate.pairs[0].id}"] if candidate.pairs else []
    yield sheet.go_on(f"show prompt {candidate.prompt_id}", *pair)


def _pairs_of(candidate: CandidateDetail) -> Text:
    return Text("\n").join(
        plain(f"{pair.role} in pair {pair.id} ({pair.run}, iteration {pair.t})") for pair in candidate.pairs
    )


def _pair(detail: PairDetail, sheet: Sheet) -> Iterator[RenderableType]:
    pair = detail.pair
    yield heading(f"pair {pair.id}", f"run {pair.run}, iteration {pair.t}", f"margin {number(pair.margin)}")
    yield facts(
        [
            ("written by", _writers(detail)),
            ("imported", plain(pair.origin) if pair.origin != OWN else None),
            ("judged by", plain(pair.judged_by) if pair.judged_by else None),
            ("trained", plain(_outcome_of(pair))),
            ("soft label", Text(number(pair.soft_label)) if pair.soft_label is not None else None),
        ]
    )
    yield Text()
    yield heading(f"prompt {pair.prompt_id}")
    yield sheet.block(plain(detail.prompt.text))
    yield Text()
    yield from _sides(detail, sheet)
    for candidate, role in ((detail.chosen, "chosen"), (detail.rejected, "rejected")):
        if pair.judge_id is None:
            break  # nobody's scores made it
        yield Text()
        yield Text.assemble("judgements of the ", (role, STYLES[role]), f" candidate {candidate.id}")
        mine = [row for row in candidate.judgements if row.judge_id == pair.judge_id]
        yield from _judgements(mine, sheet)
    yield Text()
    yield from _others(detail.others)
    yield sheet.go_on(
        f"show candidate {pair.chosen_id}",
        f"show candidate {pair.rejected_id}",
        f"show prompt {pair.prompt_id}",
    )


def _writers(detail: PairDetail) -> Text | None:
    """Who wrote both, or each of them."""
    chosen, rejected = detail.chosen.written_by, detail.rejected.written_by
    if chosen is None or chosen == rejected:
        return plain(chosen) if chosen else None
    return plain(f"{chosen}, the rejected one by {rejected or 'others'}")


def _outcome_of(pair: PairRow) -> str:
    return f"left out of training: {pair.excluded}" if pair.excluded else pair.trained or "not yet"


def _sides(detail: PairDetail, sheet: Sheet) -> Iterator[RenderableType]:
    """Chosen and rejected, in two columns where there is room, else below each other."""
    rejected, chosen = marked(detail.rejected.text, detail.chosen.text)
    between = "\n" if sheet.two_columns else " · "
    heads = _title(detail.chosen, "chosen", between), _title(detail.rejected, "rejected", between)
    if sheet.two_columns:
        yield sheet.beside((heads[0], sheet.cut(chosen)), (heads[1], sheet.cut(rejected)))
        return
    yield heads[0]
    yield sheet.block(chosen)
    yield Text()
    yield heads[1]
    yield sheet.block(rejected)


def _others(others: Iterable[CandidateDetail]) -> Iterator[RenderableType]:
    told = [f"candidate {candidate.id} with {_score(candidate)}" for candidate in others]
    if told:
        yield Text(f"also answered: {', '.join(told)}", DIM)
