"""The queries a daemon asks again and again go through an index, however long the run is.

On SQLite, where the plan does not depend on what is stored: the daemon never runs ANALYZE.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from selfreward.store import Store
from tests.conftest import Filled

LONG = ("candidate", "judgement", "prompt", "prompt_demonstration", "preference_pair", "pair_decision")
"""Tables that grow with every iteration."""
Ask = Callable[[Filled], object]
DAEMON: dict[str, Ask] = {
    "prompts short of candidates": lambda it: it.store.prompts.short_of_candidates(1, 4, 0, 64),
    "candidates short of judgements": lambda it: it.store.candidates.short_of_judgements(1, 1, 3, 0, 64),
    "undecided prompts": lambda it: it.store.pairs.undecided(1, it.judge, 0, 500),
    "outcomes": lambda it: it.store.pairs.outcomes(1),
    "pairs to train on": lambda it: list(it.store.pairs.training_pairs(1)),
    "tally": lambda it: it.store.prompts.tally(1),
    "judgements": lambda it: it.store.candidates.judgement_count(1, it.judge),
    "what a judge found": lambda it: it.store.candidates.judged(1, it.judge),
    "statuses": lambda it: it.store.candidates.statuses(1),
    "requests": lambda it: it.store.journal.take_requests(1),
    "counts": lambda it: it.store.journal.counts(it.iteration),
    "pool": lambda it: it.store.pool.ids(1),
    "texts": lambda it: it.store.pool.texts([1, 2]),
    "accepted prompts": lambda it: it.store.prompts.written(1),
    "held-out prompts to answer": lambda it: it.store.answers.missing(1, [1, 2], 0, 64),
    "held-out answers to compare": lambda it: it.store.answers.uncompared(1, 1, [1], [1, 2], 0, 64),
    "held-out replies to judge": lambda it: it.store.replies.short_of_judgements([1, 2], 1, 3, 0, 64),
    "held-out judgements": lambda it: it.store.replies.judgement_count(1, [1, 2]),
}


@pytest.fixture
def on_sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Filled]:
    """An iteration with a prompt, its candidates and a judgement."""
    path = tmp_path / "selfreward.db"
    path.write_bytes(sqlite_template.read_bytes())
    store = Store(f"sqlite:///{path}", tmp_path)
    filled = Filled(store)
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    filled.judgements(1, [5.0])
    yield filled
    store.close()


@contextmanager
def asked_of(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is run inside the block, with its values."""
    statements: list[tuple[str, Any]] = []

    def note(_: Connection, __: Any, statement: str, values: Any, ___: Any, ____: bool) -> None:
        statements.append((statement, values))

    event.listen(store.database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(store.database.engine, "before_cursor_execute", note)


def plan_of(store: Store, statement: str, values: Any) -> list[str]:
    with store.database.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        return [row.detail for row in rows]


def scans(plan: list[str]) -> list[str]:
    """Steps that go through the whole of a long table, by itself or by an index."""
    return [step for step in plan if step.startswith("SCAN ") and step.split()[1] in LONG]


@pytest.mark.parametrize("question", DAEMON)
def test_what_is_asked_again_and_again_uses_an_index(on_sqlite: Filled, question: str) -> None:
    with asked_of(on_sqlite.store) as statements:
        DAEMON[question](on_sqlite)
    selects = [asked for asked in statements if asked[0].startswith("SELECT")]
    assert selects
    for statement, values in selects:
        plan = plan_of(on_sqlite.store, statement, values)
        assert not scans(plan), (statement, plan)


def test_a_query_without_an_index_would_be_found_out(on_sqlite: Filled) -> None:
    without = "SELECT count(*) FROM judgement WHERE judge_id = ?"
    assert scans(plan_of(on_sqlite.store, without, (1,)))
