"""What a list shows of each prompt: what became of it, and the widest of its pairs."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, false, func, select

from selfreward.store.browsed import PromptListRow
from selfreward.store.rows import AnySelect
from selfreward.store.schema import Candidate, PairDecision, PreferencePair, Prompt
from selfreward.store.scope import Used
from selfreward.types import PairOutcome, PromptSource, PromptStatus, RejectReason


def listed(connection: Connection, ids: Sequence[int], used: Sequence[Used]) -> list[PromptListRow]:
    """What a list shows of these prompts."""
    deciding = [row.id for row in used]
    t_of = {row.data_id: row.t for row in used}
    candidates = (
        select(func.count()).select_from(Candidate).where(Candidate.prompt_id == Prompt.id).scalar_subquery()
    )
    decided = (PairDecision.prompt_id == Prompt.id) & PairDecision.iteration_id.in_(deciding)
    query: AnySelect = (
        select(
            Prompt.id,
            Prompt.iteration_id,
            Prompt.text,
            Prompt.source,
            Prompt.status,
            Prompt.reject_reason,
            PairDecision.outcome,
            PairDecision.best_score,
            PairDecision.worst_score,
            candidates.label("candidates"),
        )
        .outerjoin(PairDecision, decided if deciding else false())
        .where(Prompt.id.in_(ids))
        .order_by(Prompt.id)
    )
    pairs = _pairs(connection, ids, deciding)
    return [_row(row._asdict(), t_of, pairs[row.id]) for row in connection.execute(query)]


def _pairs(
    connection: Connection, ids: Sequence[int], deciding: Sequence[int]
) -> dict[int, list[tuple[int, float | None]]]:
    """Pairs of prompts with their margins, the widest first, those without one last."""
    query = select(PreferencePair.prompt_id, PreferencePair.id, PreferencePair.margin).where(
        PreferencePair.prompt_id.in_(ids), PreferencePair.iteration_id.in_(deciding)
    )
    found: dict[int, list[tuple[int, float | None]]] = defaultdict(list)
    for prompt_id, pair_id, margin in connection.execute(query.order_by(PreferencePair.id)):
        found[prompt_id].append((pair_id, margin))
    for pairs in found.values():
        pairs.sort(key=lambda pair: -(pair[1] or 0))
    return found


def _row(
    found: dict[str, Any], t_of: dict[int, int], pairs: Sequence[tuple[int, float | None]]
) -> PromptListRow:
    iteration, reason, outcome = found.pop("iteration_id"), found["reject_reason"], found["outcome"]
    return PromptListRow(
        **found
        | {
            "t": t_of.get(iteration),
            "source": PromptSource(found["source"]),
            "status": PromptStatus(found["status"]),
            "reject_reason": RejectReason(reason) if reason else None,
            "outcome": PairOutcome(outcome) if outcome else None,
            "pair_id": pairs[0][0] if pairs else None,
            "margin": pairs[0][1] if pairs else None,
            "pairs": len(pairs),
        }
    )
