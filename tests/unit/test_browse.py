"""What a run has made is found with all that belongs to it, on both databases, whatever is typed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.store.browse import Browse
from selfreward.store.browse_answers import outcome
from selfreward.store.browsed import PromptFilter
from selfreward.types import (
    Gate,
    GateResult,
    GateState,
    MetricPoint,
    PairOutcome,
    PromptSource,
    PromptStatus,
    RejectReason,
    StageName,
    Verdict,
)
from tests.browsed_run import Browsed, make_browsed, open_copy
from tests.measured_run import Measured, answers_compared


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def browsed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browsed]:
    """Runs to read."""
    store = open_copy(request, tmp_path_factory.mktemp("browsed"))
    yield make_browsed(store)
    store.close()


@pytest.fixture
def changing(store: Store) -> Browsed:
    """Runs of one's own."""
    return make_browsed(store)


def texts(browsed: Browsed, words: str, **more: object) -> list[str]:
    """Prompts of the run that a search finds."""
    wanted = PromptFilter(words=words, **more)  # type: ignore[arg-type]
    return [row.text for row in browsed.browse.prompts(browsed.run.id, wanted).rows]


def test_a_list_shows_what_became_of_each_prompt(browsed: Browsed) -> None:
    rows = browsed.browse.prompts(browsed.run.id, PromptFilter(t=1)).rows
    assert [row.t for row in rows] == [1] * 6
    assert [row.outcome for row in rows] == ["tie", "paired", "paired", None, "paired", "tie"]
    assert [row.reject_reason for row in rows] == [None, None, None, "similar", None, None]
    paired, rejected = rows[1], rows[3]
    assert (paired.best_score, paired.worst_score, paired.margin, paired.candidates) == (2.0, 0.5, 1.5, 3)
    assert (rejected.best_score, rejected.margin, rejected.pair_id, rejected.candidates) == (None,) * 3 + (0,)


def test_filters_are_all_to_hold(browsed: Browsed) -> None:
    def found(**wanted: object) -> list[int]:
        rows = browsed.browse.prompts(browsed.run.id, PromptFilter(**wanted)).rows  # type: ignore[arg-type]
        return [row.id for row in rows]

    everything = found()
    assert len(everything) == 12 and everything == sorted(everything)
    assert found(t=2) == everything[6:]
    assert found(outcome=PromptStatus.REJECTED) == [everything[3], everything[9]]
    assert found(outcome=RejectReason.SIMILAR, t=1) == [everything[3]]
    assert found(outcome=RejectReason.KEYWORD) == []
    assert found(outcome=PairOutcome.TIE, t=2) == [everything[6], everything[11]]
    assert found(least_score=3, most_score=4) == [everything[2], everything[8]]
    assert found(least_margin=2.5) == [everything[2], everything[4], everything[8], everything[10]]
    assert found(least_margin=2.5, most_score=3, t=1) == [everything[2]]
    assert found(outcome=PairOutcome.PAIRED, least_score=9) == []
    assert found(least_score=0, outcome=PromptStatus.REJECTED) == []


def test_seeds_are_a_list_of_their_own(browsed: Browsed) -> None:
    wanted = PromptFilter(source=PromptSource.SEED)
    for run in (browsed.run, browsed.fork):
        [seed] = browsed.browse.prompts(run.id, wanted).rows
        assert (seed.text, seed.t, seed.outcome) == ("Why is silk soft?", None, None)
    assert texts(browsed, "soft") == []
    assert texts(browsed, "sof", source=PromptSource.SEED) == ["Why is silk soft?"]


def test_an_iteration_that_is_not_there_is_told_of(browsed: Browsed) -> None:
    with pytest.raises(BadInput, match="no iteration 9") as told:
        browsed.browse.prompts(browsed.run.id, PromptFilter(t=9))
    assert told.value.hint == "Iterations: 1, 2."


def test_words_are_found_in_any_order_and_case_the_last_as_a_beginning(browsed: Browsed) -> None:
    everything = texts(browsed, "")
    with_both = [text for text in everything if {"silk", "sand"} <= set(text.lower().split())]
    assert 0 < len(with_both) < len(everything)
    assert texts(browsed, "silk sand") == texts(browsed, "SAND  sil") == with_both
    assert texts(browsed, "sil sand") == []


HOSTILE = (
    "silk' OR 1=1 --",
    "'; DROP TABLE prompt; --",
    'silk" OR "sand',
    "silk OR sand",
    "silk AND NOT sand",
    "silk NEAR sand",
    "NEAR(silk sand, 2)",
    "text:silk",
    "rowid:1",
    "^silk",
    "-silk +sand",
    "{silk sand}:x",
    "silk & !sand | rope",
    "silk <-> sand",
    "silk:*AB",
    "'silk':A",
    "silk\\",
    "\\'silk\\",
    "si*lk*",
    "%silk_",
    "silk\x00sand",
    "silk\ud800",
    "\u202esilk",
    "🧵",
    "(((",
    '"',
    "*",
    ":",
    "sil" * 4_000,
    " ".join(["silk"] * 500),
)


@pytest.mark.parametrize("typed", HOSTILE)
def test_nothing_that_is_typed_is_a_search_language(browsed: Browsed, typed: str) -> None:
    found = texts(browsed, typed)
    assert all("silk" in text for text in found) and len(found) < 12
    assert len(texts(browsed, "")) == 12


def test_words_of_a_search_language_are_words(changing: Browsed) -> None:
    changing.filled.prompt("Is it silk or sand?", draw=99)
    changing.filled.prompt("NOT silk AND NEAR sand", draw=100)
    assert texts(changing, "silk OR sand") == ["Is it silk or sand?"]
    assert texts(changing, "not near") == ["NOT silk AND NEAR sand"]


def test_a_search_without_a_letter_finds_nothing(browsed: Browsed) -> None:
    assert texts(browsed, " *** ") == []


def test_a_changed_text_is_found_by_its_new_words_only(changing: Browsed) -> None:
    key = changing.filled.prompt("velvet", draw=99)
    with changing.filled.store.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE prompt SET text = 'linen' WHERE id = {key}")
    assert (texts(changing, "velvet"), texts(changing, "linen")) == ([], ["linen"])


def test_a_prompt_comes_with_all_that_belongs_to_it(browsed: Browsed) -> None:
    listed = browsed.browse.prompts(browsed.run.id, PromptFilter(t=1)).rows[1]
    prompt = browsed.browse.prompt(browsed.run.id, listed.id)
    assert (prompt.run, prompt.t, prompt.status, prompt.text) == ("main", 1, "accepted", listed.text)
    assert (prompt.written_by, prompt.judged_by, prompt.trained) == ("M_1", "M_1", "M_2")
    assert prompt.nearest is not None and prompt.nearest.text == "Why is silk soft?"
    assert prompt.nearest_rouge_l == 0.25 and [shown.id for shown in prompt.demonstrations] == [1]
    assert [candidate.index for candidate in prompt.candidates] == [0, 1, 2]
    assert [candidate.mean_score for candidate in prompt.candidates] == [2.0, 0.5, None]
    assert [judgement.score for judgement in prompt.candidates[0].judgements] == [2.0, 2.0]
    assert [judgement.status for judgement in prompt.candidates[2].judgements] == ["unreadable"]
    assert prompt.pair is not None and prompt.pair.id == listed.pair_id
    roles = [candidate.role_in(prompt.pair.id) for candidate in prompt.candidates]
    assert roles == ["chosen", "rejected", "other"]
    assert prompt.decision is not None and prompt.decision.outcome is PairOutcome.PAIRED
    assert [(used.run, used.t) for used in prompt.used_by] == [("main", 1), ("beta05", 1)]


def test_a_fork_shows_what_it_reuses_with_its_own_pairs(browsed: Browsed) -> None:
    [mine, theirs] = [browsed.browse.prompts(run.id).rows for run in (browsed.run, browsed.fork)]
    assert [row.id for row in theirs] == [row.id for row in mine[:6]]
    assert theirs[1].pair_id is not None and theirs[1].pair_id != mine[1].pair_id
    prompt = browsed.browse.prompt(browsed.fork.id, mine[1].id)
    assert prompt.pair is not None and (prompt.pair.run, prompt.pair.id) == ("beta05", theirs[1].pair_id)
    assert prompt.trained is None
    with pytest.raises(BadInput, match="belongs to run 'main', not to 'beta05'") as told:
        browsed.browse.prompt(browsed.fork.id, mine[-1].id)
    assert "--run main" in told.value.hint


def test_only_the_judge_that_counts_makes_the_mean(changing: Browsed) -> None:
    filled, listed = changing.filled, changing.browse.prompts(changing.run.id, PromptFilter(t=2)).rows[1]
    [first, *_] = changing.browse.prompt(changing.run.id, listed.id).candidates
    filled.judge = filled.store.candidates.judge(None, "rubric", "other.jinja", "1" * 64, {})
    filled.judgements(first.id, [5.0])
    again = changing.browse.candidate(first.id)
    assert (again.mean_score, again.scores) == (first.mean_score, first.scores) == (2.0, (2.0, 2.0))
    assert [row.judged_by for row in again.judgements] == ["M_2", "M_2", "independent"]
    assert changing.browse.judged_candidate(again.judgements[-1].id) == again


def test_a_pair_comes_with_both_texts_and_the_other_candidates(browsed: Browsed) -> None:
    listed = browsed.browse.prompts(browsed.run.id, PromptFilter(t=1)).rows[1]
    assert listed.pair_id is not None
    found = browsed.browse.pair(listed.pair_id)
    assert (found.chosen.text, found.rejected.text) == ("A good answer.", "A poor answer.")
    assert [candidate.text for candidate in found.others] == ["An answer."]
    assert (found.pair.judged_by, found.pair.trained, found.prompt.text) == ("M_1", "M_2", listed.text)
    assert {pair.run for pair in found.chosen.pairs} == {"main", "beta05"}


def test_what_was_left_out_of_training_trained_nothing(changing: Browsed) -> None:
    listed = changing.browse.prompts(changing.run.id, PromptFilter(t=1)).rows[1]
    assert listed.pair_id is not None
    changing.filled.store.pairs.exclude(changing.filled.store.runs.iteration(1, 1).id, [listed.pair_id])  # type: ignore[union-attr]
    pair = changing.browse.pair(listed.pair_id).pair
    assert (pair.excluded, pair.trained) == ("too_long", None)


@pytest.mark.parametrize("kind", ["prompt", "candidate", "judged_candidate", "pair"])
@pytest.mark.parametrize("key", [0, 999, 2**62])
def test_an_unknown_id_is_told_with_those_that_are_there(browsed: Browsed, kind: str, key: int) -> None:
    look = getattr(browsed.browse, kind)
    with pytest.raises(BadInput, match=f"there is no .* {key} in this database") as told:
        look(browsed.run.id, key) if kind == "prompt" else look(key)
    assert told.value.hint.startswith("Ids run from 1 to ")


def test_an_empty_database_has_no_ids(store: Store) -> None:
    with pytest.raises(BadInput) as told:
        Browse(store.database).pair(1)
    assert told.value.hint == "There are none yet."


def test_an_iteration_tells_everything_but_its_rows(changing: Browsed) -> None:
    store, filled = changing.filled.store, changing.filled
    gate = GateResult(gate=Gate.SPREAD, state=GateState.WARN, value=0.1, limit=0.2, message="narrow")
    store.gates.put(changing.second.id, [gate])
    store.journal.add_metrics(
        changing.second.id, StageName.TRAIN, 1, [MetricPoint(step=7, name="loss", value=0.5)]
    )
    store.journal.event(changing.run.id, "gate", "spread is narrow", changing.second.id, value=0.1)
    store.journal.event(changing.run.id, "started", "a daemon")
    session = store.runs.begin_session(changing.second.id, filled.checkpoint.id, "fake", 5)
    store.runs.end_session(session, 100, 50)
    found = changing.browse.iteration(changing.run.id, 2)
    assert (found.run, found.t, found.status, found.checkpoint.name) == ("main", 2, "running", "M_2")
    assert found.trained is None and found.reused is None
    assert {key: found.counts[key] for key in ("prompts", "rejected_prompts", "candidates", "pairs")} == {
        "prompts": 5,
        "rejected_prompts": 1,
        "candidates": 15,
        "pairs": 3,
    }
    assert (found.counts["judgements"], found.counts["readable"], found.counts["steps"]) == (20, 15, 7)
    assert found.outcomes == {PairOutcome.PAIRED: 3, PairOutcome.TIE: 2}
    assert found.rejected == {RejectReason.SIMILAR: 1}
    assert sum(found.scores.values()) == 15 and found.scores[0.5] == 3
    assert [stage.name for stage in found.stages] == ["self_instruct", "sample", "judge", "pair"]
    assert found.stages[0].detail == "as told" and found.stages[0].seconds is not None
    assert "python" in found.stages[0].versions
    assert found.gates == (gate,)
    assert [(row.engine, row.generated_tokens) for row in found.sessions] == [("fake", 50)]
    assert [(event.kind, event.t) for event in found.events] == [("gate", 2)]
    assert found.judge is not None and found.judge.judged_by == "M_2"
    assert found.changed == ()


def test_a_forks_first_iteration_tells_what_it_changes_and_reuses(browsed: Browsed) -> None:
    found = browsed.browse.iteration(browsed.fork.id, 1)
    assert [(change.key, change.old, change.new) for change in found.changed] == [("train.beta", 0.1, 0.5)]
    assert found.reused is not None and (found.reused.run, found.reused.t) == ("main", 1)
    assert found.counts["prompts"] is None, "it is pending"
    with pytest.raises(BadInput, match="no iteration 2"):
        browsed.browse.iteration(browsed.fork.id, 2)


def test_a_checkpoint_tells_where_it_comes_from_and_what_it_led_to(browsed: Browsed, tmp_path: Path) -> None:
    (tmp_path / "models" / "M_2").mkdir(parents=True)
    (tmp_path / "models" / "M_2" / "model.safetensors").write_bytes(bytes(10))
    second = browsed.browse.checkpoint(browsed.run.id, "M_2", tmp_path)
    assert [ref.name for ref in second.ancestors] == ["M_1"] and second.children == ()
    assert second.trained_in is not None and second.trained_in.t == 1
    assert (second.pairs, second.examples, second.size_bytes) == (3, 0, 10)
    first = browsed.browse.checkpoint(browsed.fork.id, "M_1", tmp_path)
    assert [ref.name for ref in first.children] == ["M_2"] and first.trained_in is None
    assert [(ref.run, ref.t) for ref in first.works_in] == [("main", 1), ("beta05", 1)]
    assert first.size_bytes is None
    with pytest.raises(BadInput, match="run 'beta05' has no checkpoint 'M_2'") as told:
        browsed.browse.checkpoint(browsed.fork.id, "M_2")
    assert told.value.hint == "Checkpoints: M_1."


def test_events_are_paged_in_both_directions(store: Store) -> None:
    run = store.runs.ensure("main")
    for number in range(5):
        store.journal.event(run.id, "odd" if number % 2 else "even", str(number))
    browse = Browse(store.database)
    last = browse.events(run.id, limit=2)
    assert [event.message for event in last.rows] == ["3", "4"] and last.after is None
    before = browse.events(run.id, before=last.before, limit=2)
    assert [event.message for event in before.rows] == ["1", "2"]
    after = browse.events(run.id, after=before.after, limit=1)
    assert [event.message for event in after.rows] == ["3"] and after.after == after.rows[0].id
    assert [event.message for event in browse.events(run.id, kinds=["odd"]).rows] == ["1", "3"]
    assert browse.event_kinds(run.id) == ["even", "odd"]


def test_answers_stand_side_by_side_with_verdicts(store: Store) -> None:
    measured = Measured(store)
    other, ids = answers_compared(measured)
    mine, theirs = ids["M_1", measured.first], ids["M_2", measured.first]
    measured.judge = store.candidates.judge(measured.checkpoint.id, "pairwise", "c.jinja", "0" * 64, {})
    measured.compare(mine, theirs, Verdict.SECOND)
    measured.compare(theirs, mine, Verdict.FIRST)
    measured.compare(ids["M_1", measured.second], ids["M_2", measured.second], None)
    browse = Browse(store.database)
    page = browse.answers_side_by_side(measured.checkpoint.id, other.id)
    first, second = page.rows
    assert (first.prompt, first.first.text) == ("First?", f"M_1 to {measured.first}")
    assert [row.preferred for row in first.verdicts] == [Verdict.SECOND] * 2
    assert {row.shown_first for row in first.verdicts} == {Verdict.FIRST, Verdict.SECOND}
    assert (outcome(first.verdicts), outcome(second.verdicts)) == (Verdict.SECOND, None)
    turned = browse.answers_side_by_side(other.id, measured.checkpoint.id).rows[0]
    assert turned.first == first.second and outcome(turned.verdicts) is Verdict.FIRST
    summary = browse.answers_summary(measured.checkpoint.id, other.id)
    [judged] = summary.judged
    assert (summary.prompts, summary.first_tokens) == (2, 4.0)
    assert (judged.first, judged.second, judged.undecided) == (0, 1, 1)
    one = browse.answers_side_by_side(measured.checkpoint.id, other.id, limit=1)
    rest = browse.answers_side_by_side(measured.checkpoint.id, other.id, limit=1, after=one.after)
    assert (one.rows, rest.rows) == ((first,), (second,)) and rest.after is None
    alone = browse.answers_side_by_side(measured.checkpoint.id, other.id, prompt_id=measured.second)
    assert alone.rows == (second,)
