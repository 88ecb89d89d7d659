"""What enters the database can be stored by both, and comes back as it was said."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from selfreward.store import Store
from selfreward.store.schema import Run, Setting, Table
from selfreward.store.schema.base import CleanJson, CleanText
from selfreward.text import clean, clean_values, fingerprint, restore, restore_values
from selfreward.types import RankedReply, Seed
from tests.conftest import Filled

# Any code point, and often what is marked, looks like a mark, or stands beside one.
TRICKY = st.sampled_from(
    ["\x00", "\x7f", "\ud800", "\udfff", "\ufffd", "0000", "FFFD", "00", "D8", "\r", "\n"]
)
TEXTS = st.lists(st.one_of(TRICKY, st.text(st.characters(codec=None), max_size=3))).map("".join)
HOSTILE = "NUL \x00, ESC \x1b[31m, \ud83d alone, \ufffd and \ufffd0000, \r\n\t end"
STORED = "NUL �0000, ESC �001B[31m, �D83D alone, � and �FFFD0000, \r\n\t end"


@given(TEXTS)
def test_every_text_comes_back_as_it_was(text: str) -> None:
    assert restore(clean(text)) == text


@given(TEXTS)
def test_what_is_stored_comes_from_one_text_only(text: str) -> None:
    stored = clean(text)
    assert clean(restore(stored)) == stored


@given(TEXTS)
def test_what_is_stored_can_be_stored(text: str) -> None:
    stored = clean(text)
    stored.encode("utf-8")
    assert not [char for char in stored if char < " " and char not in "\t\r\n"] and "\x7f" not in stored


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"])))
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_it_is_marked_with_its_code_point() -> None:
    assert clean(HOSTILE) == STORED and restore(STORED) == HOSTILE


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
    max_leaves=8,
)


@given(VALUES)
def test_every_json_value_comes_back_as_it_was(value: object) -> None:
    assert restore_values(clean_values(value)) == value


def test_texts_are_known_again_however_their_lines_end() -> None:
    assert fingerprint("a\r\nb") == fingerprint("a\nb") == fingerprint("a\rb") != fingerprint("a b")


# --- the database ----------------------------------------------------------------------------------


def test_no_column_of_text_lies_beside_the_gate() -> None:
    for table in Table.metadata.sorted_tables:
        for column in table.columns:
            python_type = column.type.python_type if not isinstance(column.type, CleanJson) else None
            assert python_type is not str or isinstance(column.type, CleanText), (table.name, column.name)


def test_hostile_text_is_stored_alike_by_both_databases(filled: Filled) -> None:
    prompt = filled.prompt(HOSTILE)
    filled.candidates(prompt, [HOSTILE])
    filled.store.journal.event(filled.run.id, "note", HOSTILE, told={HOSTILE: [HOSTILE]})
    replies = (RankedReply(text=HOSTILE, rank=0, justification=HOSTILE), RankedReply(text="b", rank=1))
    filled.store.prompts.add_seeds(
        filled.run.id, [Seed(instruction=HOSTILE, answer=HOSTILE, replies=replies)]
    )
    for found in _texts(filled.store):
        assert found == STORED and restore(found) == HOSTILE
    [event] = filled.store.journal.events(filled.run.id)
    assert event.data == {"told": {STORED: [STORED]}}
    assert restore_values(event.data) == {"told": {HOSTILE: [HOSTILE]}}


def _texts(store: Store) -> Iterator[str]:
    queries = (
        "SELECT text FROM prompt",
        "SELECT reference FROM prompt WHERE source = 'seed'",
        "SELECT text FROM candidate",
        "SELECT justification FROM ranked_reply WHERE rank = 0",
        "SELECT message FROM event",
    )
    with store.database.read() as connection:
        for query in queries:
            found = list(connection.exec_driver_sql(query).scalars())
            assert found, query
            yield from found


def test_a_row_is_found_by_the_text_it_was_made_with(filled: Filled) -> None:
    with filled.store.database.write() as connection:
        connection.execute(insert(Run).values(name=HOSTILE, created_at=filled.run.created_at))
    found = filled.store.runs.find(HOSTILE)
    assert found is not None and restore(found.name) == HOSTILE


@pytest.mark.parametrize("value", [{"a": 1e-05, "b": 1.0, "c": [1, None, True]}, {}])
def test_ordinary_json_comes_back_as_it_was(store: Store, value: dict[str, object]) -> None:
    run = store.runs.ensure("main")
    with store.database.write() as connection:
        connection.execute(insert(Setting).values(hash="h", body=value, created_at=run.created_at))
        assert connection.execute(select(Setting.body)).scalar_one() == value
