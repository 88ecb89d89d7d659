"""Word differences: nothing is lost, changes are where they are, and long texts end in time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward import differences as module
from selfreward.differences import Difference, Kind, Piece, differences

WORDS = st.lists(
    st.sampled_from(["the", "a", "cat", "sat", " ", "  ", "\n", ",", ".", "é", "\u202e"]), max_size=30
)
TEXTS = st.one_of(st.text(max_size=60), WORDS.map("".join))


def _join(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece.text for piece in pieces)


def _told(difference: Difference) -> list[tuple[str, str]]:
    return [(piece.kind.value, piece.text) for piece in difference.pieces]


@given(old=TEXTS, new=TEXTS)
@settings(max_examples=300, deadline=None)
def test_kept_and_deleted_give_the_old_text_kept_and_inserted_the_new(old: str, new: str) -> None:
    difference = differences(old, new)
    assert _join(difference.old) == old
    assert _join(difference.new) == new
    assert all(piece.text for piece in difference.pieces)
    assert 0 <= difference.shared <= 1


@given(text=TEXTS)
@settings(deadline=None)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    assert all(piece.kind is Kind.KEPT for piece in differences(text, text).pieces)
    assert differences(text, text).shared == 1


def test_the_words_that_changed_are_told_and_no_others() -> None:
    assert _told(differences("The cat sat down.", "The dog sat down!")) == [
        ("kept", "The "),
        ("deleted", "cat"),
        ("inserted", "dog"),
        ("kept", " sat down"),
        ("deleted", "."),
        ("inserted", "!"),
    ]


def test_neighbouring_changes_are_one() -> None:
    assert _told(differences("one red cat here", "one big dog here")) == [
        ("kept", "one "),
        ("deleted", "red cat"),
        ("inserted", "big dog"),
        ("kept", " here"),
    ]


def test_white_space_between_insertions_is_not_struck_out() -> None:
    assert ("deleted", " ") not in _told(differences("one two", "one, and two, too"))


def test_a_word_that_both_happen_to_have_does_not_break_what_was_replaced() -> None:
    old = "Road often reason before clear cause quiet late narrow step almost simple."
    new = "Answer every early morning never quiet people other slowly number garden."
    assert _told(differences(old, new)) == [("deleted", old[:-1]), ("inserted", new[:-1]), ("kept", ".")]


def test_texts_that_have_nothing_in_common_share_nothing() -> None:
    assert differences("aaa", "bbb").shared == 0


def test_long_texts_are_compared_by_lines_and_still_lose_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_CELLS", 40)
    old = "".join(f"line {n} is here\n" for n in range(5))
    new = old.replace("line 0", "Line 0").replace("line 3 is", "line three was")
    difference = differences(old, new)
    assert (_join(difference.old), _join(difference.new)) == (old, new)
    assert ("kept", "line 1 is here\nline 2 is here\n") in _told(difference)


def test_very_long_texts_without_lines_take_no_time() -> None:
    old, new = (" ".join(f"{start}{n}" for n in range(60_000)) for start in "ab")
    begun = time.perf_counter()
    difference = differences("same " + old, "same " + new)
    assert time.perf_counter() - begun < 2
    assert difference.pieces[0] == Piece(kind=Kind.KEPT, text="same ")
    assert _join(difference.new) == "same " + new
