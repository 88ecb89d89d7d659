"""A fork's history on both databases: what it has from its parent, what is its own, what stays apart."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.store.forks import Reuse
from selfreward.types import (
    CheckpointKind,
    CheckpointRow,
    EvaluationRow,
    Gate,
    GateResult,
    GateState,
    Metric,
    PromptStatus,
    RunRow,
    Seed,
    Split,
    StageName,
    Status,
    Suite,
    WrittenPrompt,
)
from tests.conftest import Filled

BETA = Settings.model_validate({"train": {"beta": 0.5}})


class Line(Filled):
    """The run main with M_1 to M_4, a prompt written in each of its iterations, and seeds."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        seeds = [Seed(instruction="Learn?"), Seed(instruction="Held out?", split=Split.HELD_OUT)]
        store.prompts.add_seeds(self.run.id, seeds)
        self.prompts = {t: self.iterate(t) for t in (1, 2, 3)}

    def iterate(self, t: int, run: RunRow | None = None) -> int:
        """Iteration t with a prompt and a finished training; returns the prompt."""
        run = run or self.run
        runs = self.store.runs
        checkpoint = runs.checkpoint(run.id, t)
        assert checkpoint is not None
        iteration = runs.open_iteration(run.id, t, checkpoint.id, self.settings)
        stage = runs.begin_stage(iteration.id, StageName.SELF_INSTRUCT)
        prompt = self.store.prompts.add_written(
            run.id, iteration.data_iteration_id, stage.id, written(f"{run.name} {t}?")
        )
        runs.finish_stage(stage.id, "target reached")
        where = "models" if run.name == "main" else f"forks/{run.name}/models"
        runs.finish_iteration(iteration, CheckpointKind.DPO, f"{where}/M_{t + 1}", f"{run.name}-{t + 1}")
        return prompt

    def fork(self, name: str, t: int, parent: RunRow | None = None, **options: object) -> RunRow:
        """A fork; it shares seeds unless told otherwise."""
        parent = parent or self.run
        checkpoint = self.store.runs.checkpoint(parent.id, t)
        assert checkpoint is not None
        self.store.forks.make(
            name,
            parent,
            checkpoint,
            BETA,
            **{"shares_seeds": True, **options},  # type: ignore[arg-type]
        )
        run = self.store.runs.find(name)
        assert run is not None
        return run

    def names(self, run: RunRow) -> list[tuple[str, int]]:
        """(name, run) of the checkpoints of a run's history."""
        return [(row.name, row.run_id) for row in self.store.runs.checkpoints(run.id)]

    def texts(self, run: RunRow) -> list[str]:
        """Prompts that count as written by the run."""
        return [row.text for row in self.store.prompts.written(run.id)]


def written(text: str, draw: int = 1, shown: tuple[int, ...] = ()) -> WrittenPrompt:
    return WrittenPrompt(
        draw=draw,
        draw_index=0,
        text=text,
        status=PromptStatus.ACCEPTED,
        reject_reason=None,
        nearest_prompt_id=None,
        nearest_rouge_l=None,
        demonstration_ids=shown,
    )


@pytest.fixture
def line(store: Store) -> Line:
    return Line(store)


def test_a_forks_checkpoints_are_its_parents_up_to_the_fork_and_then_its_own(line: Line) -> None:
    fork = line.fork("beta", 2)
    main = line.run.id
    assert line.names(fork) == [("M_1", main), ("M_2", main)]
    assert line.store.runs.checkpoint(fork.id, 3) is None
    line.iterate(2, fork)
    assert line.names(fork) == [("M_1", main), ("M_2", main), ("M_3", fork.id)]
    assert line.names(line.run) == [(f"M_{version}", main) for version in (1, 2, 3, 4)]
    own = line.store.runs.checkpoint(fork.id, 3)
    assert own is not None and own.parent_id == line.store.runs.checkpoint(main, 2).id  # type: ignore[union-attr]


def test_a_fork_of_a_fork_goes_on_where_its_parent_did(line: Line) -> None:
    first = line.fork("first", 3)
    line.iterate(3, first)
    late, early = line.fork("late", 4, first), line.fork("early", 2, first)
    main = line.run.id
    assert line.names(late) == [("M_1", main), ("M_2", main), ("M_3", main), ("M_4", first.id)]
    assert line.names(early) == [("M_1", main), ("M_2", main)]
    assert line.texts(late) == ["main 1?", "main 2?", "first 3?"]
    assert line.texts(early) == ["main 1?"]
    found = line.store.runs.iteration_in_history(late.id, 3)
    assert found is not None and found.run_id == first.id
    found = line.store.runs.iteration_in_history(late.id, 2)
    assert found is not None and found.run_id == main


def test_the_baseline_beside_m0_belongs_to_iteration_0(store: Store) -> None:
    runs = store.runs
    run = runs.ensure("main")
    base = runs.add_checkpoint(run.id, 0, CheckpointKind.BASE, "models/M_0", "d0")
    runs.add_checkpoint(run.id, 0, CheckpointKind.SFT, "models/M_0_ift", "d0i", base.id, "M_0_ift")
    first = runs.add_checkpoint(run.id, 1, CheckpointKind.SFT, "models/M_1", "d1", base.id)
    for name, checkpoint in (("again", base), ("on", first)):
        store.forks.make(name, run, checkpoint, BETA, shares_seeds=True)
    again, on = runs.find("again"), runs.find("on")
    assert again is not None and on is not None
    assert [row.name for row in runs.checkpoints(again.id)] == ["M_0"]
    assert [row.name for row in runs.checkpoints(on.id)] == ["M_0", "M_0_ift", "M_1"]
    runs.add_checkpoint(
        again.id, 0, CheckpointKind.SFT, "forks/again/models/M_0_ift", "x", base.id, "M_0_ift"
    )
    mine = runs.checkpoint_named(again.id, "M_0_ift")
    assert mine is not None and mine.run_id == again.id


def test_a_fork_begins_with_a_pending_iteration_that_is_then_worked_on(line: Line) -> None:
    fork = line.fork("beta", 2)
    runs = line.store.runs
    assert runs.latest_iteration(fork.id) is None
    pending = runs.iteration(fork.id, 2)
    assert pending is not None and pending.status is Status.PENDING
    assert runs.settings_of(pending)["train"]["beta"] == 0.5
    opened = runs.open_iteration(fork.id, 2, pending.checkpoint_id, BETA)
    assert opened == replace(pending, status=Status.RUNNING)
    assert opened.data_iteration_id == opened.id


def test_shared_seeds_are_found_and_own_ones_are_apart(line: Line) -> None:
    shared, own = line.fork("shared", 2), line.fork("own", 2, shares_seeds=False)
    grandchild = line.fork("grandchild", 2, shared)
    prompts = line.store.prompts
    ids = [row.id for row in prompts.seeds(line.run.id)]
    for run in (shared, grandchild):
        assert [row.id for row in prompts.seeds(run.id)] == ids
        assert line.store.answers.prompts(run.id, 9) == line.store.answers.prompts(line.run.id, 9) != []
        assert prompts.seed(run.id, ids[0]) == prompts.seed(line.run.id, ids[0])
        assert prompts.seed_origins(run.id) == prompts.seed_origins(line.run.id)
    assert prompts.seeds(own.id) == [] and prompts.seed(own.id, ids[0]) is None
    prompts.add_seeds(own.id, [Seed(instruction="Learn?")])
    assert [row.text for row in prompts.seeds(own.id)] == ["Learn?"]
    assert [row.id for row in prompts.seeds(line.run.id)] == ids


def test_figures_and_gates_of_the_parent_are_seen_and_those_after_the_fork_are_not(line: Line) -> None:
    evaluations, gates = line.store.evaluations, line.store.gates
    evaluations.put(line.run.id, [figure("M_1", 0.1), figure("M_2", 0.2), figure("M_3", 0.3)])
    for t in (1, 2):
        iteration = line.store.runs.iteration(line.run.id, t)
        assert iteration is not None
        gates.put(iteration.id, [result(f"main {t}")])
    fork = line.fork("beta", 2)
    line.iterate(2, fork)
    evaluations.put(fork.id, [figure("M_3", 0.9)])
    assert [(row.checkpoint, row.value) for row in evaluations.rows(fork.id)] == [
        ("M_1", 0.1),
        ("M_2", 0.2),
        ("M_3", 0.9),
    ]
    assert [row.value for row in evaluations.rows(line.run.id)] == [0.1, 0.2, 0.3]
    found = evaluations.figure(fork.id, "M_1", Suite.JUDGE, Metric.KENDALL)
    assert found is not None and found.value == 0.1
    assert evaluations.measured(line.run.id, "M_2") and not evaluations.measured(fork.id, "M_2")
    assert [(t, row.message) for t, row in gates.rows(fork.id)] == [(1, "main 1")]
    assert [(t, row.message) for t, row in gates.rows(line.run.id)] == [(1, "main 1"), (2, "main 2")]


def test_reused_prompts_are_copies_with_what_they_were_written_from(line: Line) -> None:
    [seed] = [row.id for row in line.store.prompts.seeds(line.run.id)]
    iteration = line.store.runs.iteration(line.run.id, 3)
    assert iteration is not None
    stage = line.store.runs.begin_stage(iteration.id, StageName.SELF_INSTRUCT)
    line.store.prompts.add_written(line.run.id, iteration.id, stage.id, written("Second?", 2, (seed,)))
    fork = line.fork("beta", 3, reuse=Reuse.PROMPTS)
    opened = line.store.runs.open_iteration(fork.id, 3, checkpoint(line, 3).id, BETA)
    assert opened.data_iteration_id == opened.id
    missing = line.store.prompts.short_of_candidates(opened.id, 2, 0, 9)
    assert [row.text for row in missing] == ["main 3?", "Second?"]
    assert {row.id for row in missing}.isdisjoint(row.id for row in line.store.prompts.written(line.run.id))
    with line.store.database.read() as connection:
        query = text("SELECT demonstration_id FROM prompt_demonstration WHERE prompt_id = :id")
        assert connection.execute(query, {"id": missing[1].id}).scalars().all() == [seed]
    assert line.texts(fork) == ["main 1?", "main 2?", "main 3?", "Second?"]
    assert done(line, opened.id) == [StageName.SELF_INSTRUCT]


def test_reused_candidates_are_the_parents_own(line: Line) -> None:
    finish(line, 3, StageName.SAMPLE)
    fork = line.fork("beta", 3, reuse=Reuse.CANDIDATES)
    opened = line.store.runs.open_iteration(fork.id, 3, checkpoint(line, 3).id, BETA)
    theirs = line.store.runs.iteration(line.run.id, 3)
    assert theirs is not None and opened.data_iteration_id == theirs.id
    assert line.store.runs.judge(opened.id) is None
    assert line.texts(fork) == ["main 1?", "main 2?", "main 3?"], "a later iteration keeps clear of them"
    assert done(line, opened.id) == [StageName.SELF_INSTRUCT, StageName.SAMPLE]
    stage = line.store.runs.begin_stage(opened.id, StageName.SAMPLE)
    assert (stage.status, stage.attempts, stage.detail) == (Status.DONE, 0, "reused: done")


def test_reused_judgements_keep_their_judge(line: Line) -> None:
    theirs = finish(line, 3, StageName.SAMPLE, StageName.JUDGE)
    line.store.runs.set_judge(theirs, line.judge)
    fork = line.fork("beta", 3, reuse=Reuse.JUDGEMENTS)
    opened = line.store.runs.iteration(fork.id, 3)
    assert opened is not None and line.store.runs.judge(opened.id) == line.judge
    assert done(line, opened.id) == [StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE]
    nested = line.fork("nested", 3, fork, reuse=Reuse.CANDIDATES)
    inner = line.store.runs.iteration(nested.id, 3)
    assert inner is not None and inner.data_iteration_id == theirs, "the data stays with the run that made it"


@pytest.mark.parametrize(
    ("reuse", "t", "told"),
    [
        (Reuse.PROMPTS, 4, "self_instruct"),
        (Reuse.CANDIDATES, 3, "not done there: sample"),
        (Reuse.JUDGEMENTS, 3, "not done there: sample, judge"),
    ],
)
def test_what_is_not_done_cannot_be_reused(line: Line, reuse: Reuse, t: int, told: str) -> None:
    before = line.store.runs.names()
    with pytest.raises(BadInput, match=told):
        line.fork("beta", t, reuse=reuse)
    assert line.store.runs.names() == before


def test_a_name_is_given_once(line: Line) -> None:
    line.fork("beta", 2)
    with pytest.raises(BadInput, match="'beta' already"):
        line.fork("beta", 1)


def test_the_judgements_of_two_judges_stay_apart(line: Line) -> None:
    """A fork judges its parent's candidates with the same model in another way."""
    line.candidates(line.prompts[1], ["good"])
    finish(line, 1, StageName.SAMPLE)
    with line.store.database.read() as connection:
        candidate = connection.execute(text("SELECT id FROM candidate")).scalar_one()
        connection.rollback()
    line.judgements(candidate, [5.0, 5.0])
    fork = line.fork("beta", 1, reuse=Reuse.CANDIDATES)
    opened = line.store.runs.open_iteration(fork.id, 1, line.checkpoint.id, BETA)
    mine = line.store.candidates.judge(line.checkpoint.id, "rubric", "other.jinja", "1" * 64, {})
    line.store.runs.set_judge(opened.id, mine)
    line.judge, before = mine, line.judge
    line.judgements(candidate, [1.0])
    assert line.store.runs.judge(line.iteration.id) == before
    with line.store.database.read() as connection:
        rows = connection.execute(
            text("SELECT run, judgements, mean_score FROM iteration_summary WHERE t = 1 ORDER BY run")
        ).all()
        scores = connection.execute(
            text("SELECT run, score, judgements FROM score_histogram WHERE t = 1 ORDER BY run")
        ).all()
    assert rows == [("beta", 1, 1.0), ("main", 2, 5.0)] and scores == [("beta", 1.0, 1), ("main", 5.0, 2)]
    counts = [line.store.journal.counts(each)[StageName.JUDGE] for each in (line.iteration, opened)]
    assert counts == [2, 1]


def test_a_stage_says_under_which_versions_it_was_last_started(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = filled.store.runs
    monkeypatch.setattr("selfreward.store.stages.versions", lambda: {"trl": "1"})
    assert runs.last_versions(filled.run.id) is None
    first = filled.stage(StageName.SELF_INSTRUCT)
    filled.stage(StageName.SAMPLE)
    assert runs.last_versions(filled.run.id) == {"trl": "1"}
    monkeypatch.setattr("selfreward.store.stages.versions", lambda: {"trl": "2"})
    runs.finish_stage(first.id, "done")
    filled.stage(StageName.SELF_INSTRUCT)
    assert runs.last_versions(filled.run.id) == {"trl": "1"}, "what is done is not started again"
    filled.stage(StageName.SAMPLE)
    assert runs.last_versions(filled.run.id) == {"trl": "2"}


def figure(checkpoint: str, value: float) -> EvaluationRow:
    return EvaluationRow(
        checkpoint=checkpoint, suite=Suite.JUDGE, metric=Metric.KENDALL, value=value, low=None, high=None, n=3
    )


def result(message: str) -> GateResult:
    return GateResult(gate=Gate.TIE_SHARE, state=GateState.OK, value=0.1, limit=0.9, message=message)


def checkpoint(line: Line, version: int) -> CheckpointRow:
    found = line.store.runs.checkpoint(line.run.id, version)
    assert found is not None
    return found


def finish(line: Line, t: int, *names: StageName) -> int:
    """Mark stages of main's iteration t as done; returns the iteration."""
    iteration = line.store.runs.iteration(line.run.id, t)
    assert iteration is not None
    for name in names:
        stage = line.store.runs.begin_stage(iteration.id, name)
        line.store.runs.finish_stage(stage.id, "done")
    return iteration.id


def done(line: Line, iteration_id: int) -> list[StageName]:
    return [stage.name for stage in line.store.runs.stages(iteration_id) if stage.status is Status.DONE]
