"""The run that the store is measured on is one: what it says of itself is what the stages find in it."""

from pathlib import Path

from selfreward.store import Store
from selfreward.store.readonly import run_query
from selfreward.store.recount import wrong_tallies
from selfreward.types import StageName
from tests.bench.bulk import Bulk, InProgress, Size
from tests.bench.store import questions, write_settings

SIZE = Size(iterations=2, prompts=40, candidates=4, judgements=3)


def written(store: Store, directory: Path) -> InProgress:
    settings = write_settings(directory, store.database.url.render_as_string(hide_password=False), SIZE)
    return Bulk(store, settings, directory, SIZE).write()


def number(store: Store, sql: str) -> int:
    return int(run_query(store.database, sql).rows[0][0])


def test_the_last_iteration_lacks_half_of_its_judgements(store: Store, tmp_path: Path) -> None:
    run = written(store, tmp_path)
    place, everything = run.place, 1_000
    counts = store.journal.counts(place.iteration)
    assert (counts[StageName.SELF_INSTRUCT], counts[StageName.SAMPLE]) == (40, 160)
    assert store.prompts.short_of_candidates(place.iteration.id, 4, 0, everything) == []
    missing = store.candidates.short_of_judgements(place.iteration.id, run.judge, 3, 0, everything)
    assert 60 < len(missing) <= 80 and min(task.id for task in missing) > run.judged
    assert all(task.missing == (0, 1, 2) for task in missing)
    stages = {stage.name: stage.status for stage in store.runs.stages(place.iteration.id)}
    assert stages == {"self_instruct": "done", "sample": "done", "judge": "running"}


def test_pairs_of_the_generated_run_are_those_of_its_scores(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path)
    wrong = """
        SELECT count(*) FROM preference_pair
        JOIN judgement ON judgement.candidate_id = preference_pair.chosen_id
                       OR judgement.candidate_id = preference_pair.rejected_id
        WHERE judgement.judge_id = preference_pair.judge_id
          AND judgement.score <> CASE WHEN judgement.candidate_id = preference_pair.chosen_id
                                      THEN preference_pair.chosen_score
                                      ELSE preference_pair.rejected_score END
    """
    assert number(store, wrong) == 0
    assert number(store, "SELECT count(*) FROM pair_decision") == 40
    assert 30 < number(store, "SELECT count(*) FROM preference_pair") < 40


def test_what_is_counted_is_what_there_is(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path)
    with store.database.read() as connection:
        total, problems = wrong_tallies(connection)
    assert problems == [] and total > 4
    assert number(store, "SELECT count(*) FROM pair_decision WHERE best_score >= worst_score") == 40


def test_every_question_of_the_benchmark_can_be_asked(store: Store, tmp_path: Path) -> None:
    for question in questions(written(store, tmp_path)):
        for after in question.places.values():
            question.ask(after)
