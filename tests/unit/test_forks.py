"""Forks, the tree of runs and changed settings through the commands, on a run that no daemon works on."""

import json
import shutil
from pathlib import Path

import pytest

from selfreward.config import SETTINGS_FILE, Settings, changes, load_settings, that_matter
from selfreward.continuity import check_settings, warn_of_versions
from selfreward.errors import BadInput
from selfreward.forks import free_name
from selfreward.moving import moved
from selfreward.places import root_of, run_option
from selfreward.store import Store
from selfreward.store.forks import Reuse
from selfreward.types import CheckpointKind, RunRow, StageName
from tests.commands import Done, selfreward

TEMPLATE = "Rate {{ response }} to {{ prompt }}."
SETTINGS = """
model = "org/name"
[seeds]
files = ["builtin", "mine.jsonl"]
[judge]
template = "rubric.jinja"
"""


@pytest.fixture
def root(tmp_path: Path, sqlite_template: Path) -> Path:
    """The run main: iteration 1 is written, answered and judged, M_2 is trained, iteration 2 goes on."""
    directory = tmp_path / "root"
    directory.mkdir()
    (directory / SETTINGS_FILE).write_text(SETTINGS)
    (directory / "rubric.jinja").write_text(TEMPLATE)
    (directory / "mine.jsonl").write_text('{"prompt": "Name a fish."}\n')
    shutil.copy(sqlite_template, directory / "selfreward.db")
    store = opened(directory)
    settings, run = load_settings(directory), store.runs.ensure("main")
    first = store.runs.add_checkpoint(run.id, 1, CheckpointKind.BASE, "models/M_1", "d1")
    iteration = store.runs.open_iteration(run.id, 1, first.id, settings)
    for name in (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE):
        store.runs.finish_stage(store.runs.begin_stage(iteration.id, name).id, "done")
    from selfreward.prompting import load_template

    template = load_template("rubric.jinja", directory)
    judge = store.candidates.judge(first.id, "rubric", template.name, template.digest, {})
    store.runs.set_judge(iteration.id, judge)
    second = store.runs.finish_iteration(iteration, CheckpointKind.DPO, "models/M_2", "d2")
    going = store.runs.open_iteration(run.id, 2, second.id, settings)
    store.runs.begin_stage(going.id, StageName.SELF_INSTRUCT)
    store.close()
    return directory


def opened(directory: Path) -> Store:
    return Store.open("sqlite:///selfreward.db", directory)


def fork(root: Path, *arguments: str, t: int = 1, name: str = "beta05") -> Done:
    return selfreward("fork", "--dir", str(root), "--from-iteration", str(t), "--name", name, *arguments)


def main_run(store: Store) -> RunRow:
    run = store.runs.find("main")
    assert run is not None
    return run


def test_a_fork_is_a_run_with_settings_of_its_own_in_the_same_database(root: Path) -> None:
    done = fork(root, "--set", "train.beta=0.5", "--reuse", "judgements")
    assert done.returncode == 0, done.stderr
    assert "forked beta05 from M_1 of main, with the judgements of iteration 1" in done.stdout
    directory = root / "forks" / "beta05"
    settings = load_settings(directory, environ={})
    assert (settings.name, settings.train.beta, settings.model) == ("beta05", 0.5, "org/name")
    text = (directory / SETTINGS_FILE).read_text()
    assert "Settings of the fork 'beta05' of the run 'main'" in text and "# Strength of the pull" in text
    store = Store.open(settings.database.url, directory)
    assert store.runs.names() == ["main", "beta05"]
    run = store.runs.find("beta05")
    assert run is not None and [row.name for row in store.runs.checkpoints(run.id)] == ["M_1"]
    iteration = store.runs.iteration(run.id, 1)
    assert iteration is not None and store.runs.settings_of(iteration) == settings.model_dump(mode="json")
    store.close()


def test_relative_paths_of_a_fork_mean_the_same_files(root: Path) -> None:
    assert fork(root).returncode == 0
    directory = root / "forks" / "beta05"
    settings = load_settings(directory, environ={})
    assert settings.database.url == "sqlite:///../../selfreward.db"
    assert settings.seeds.files == ("builtin", "../../mine.jsonl")
    assert (directory / settings.judge.template).read_text() == TEMPLATE
    assert settings.evaluation.template == "compare.jinja", "what ships has no path"
    nested = selfreward(
        "fork", "--dir", str(directory), "--from-iteration", "1", "--name", "deeper", "--set", "seed=3"
    )
    assert nested.returncode == 0, nested.stderr
    deeper = load_settings(root / "forks" / "deeper", environ={})
    assert deeper.seeds.files == settings.seeds.files and deeper.judge.template == settings.judge.template
    assert not (directory / "forks").exists(), "forks of forks live beside them"


def test_a_judges_files_mean_the_same_in_another_directory(tmp_path: Path) -> None:
    old, new = tmp_path / "root", tmp_path / "root" / "forks" / "a"
    (old / "reward").mkdir(parents=True)
    (old / "mine.jinja").touch()
    judge = {
        "reward_model": "reward",
        "pairwise": {"template": "mine.jinja"},
        "meta": {"template": "mine.jinja"},
    }
    there = moved(Settings.model_validate({"judge": judge}), old, new, "a", 1).judge
    assert there.reward_model == "../../reward"
    assert there.pairwise.template == there.meta.template == "../../mine.jinja"
    assert there.template == "judge_rubric.jinja"
    of_the_run = Settings.model_validate({"judge": {"reward_model": "R_1"}})
    assert moved(of_the_run, old, new, "a", 1).judge == of_the_run.judge


def test_every_kind_of_path_is_moved_or_left(tmp_path: Path) -> None:
    old, new = tmp_path / "root", tmp_path / "root" / "forks" / "a"
    (old / "model").mkdir(parents=True)
    (old / "set").mkdir()
    settings = Settings.model_validate(
        {
            "model": "model",
            "iterations": 1,
            "database": {"url": "postgresql+psycopg://me:secret@host/name"},
            "seeds": {"files": ["hub:set:train", "hub:org/name", "/abs.jsonl", "builtin:ranked"]},
            "evaluation": {"independent": {"model": "org/other"}},
        }
    )
    there = moved(settings, old, new, "a", 3)
    assert there.model == "../../model" and there.iterations == 3 and there.name == "a"
    assert there.database == settings.database
    assert there.seeds.files == ("hub:../../set:train", "hub:org/name", "/abs.jsonl", "builtin:ranked")
    assert there.evaluation == settings.evaluation
    assert moved(settings.model_copy(update={"iterations": 0}), old, new, "a", 3).iterations == 0
    elsewhere = {"database": {"url": "sqlite:////abs/x.db"}, "model": "pkg:a/b"}
    absolute = Settings.model_validate(settings.model_dump() | elsewhere)
    assert moved(absolute, old, new, "a", 1).database.url == "sqlite:////abs/x.db"
    assert moved(absolute, old, new, "a", 1).model == "pkg:a/b"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "model=org/other"], 'model: "org/name" → "org/other"'),
        (["--set", "database.url=sqlite:///other.db"], "database.url"),
        (["--set", "name=other"], "given with --name"),
        (["--set", "bootstrap.max_ift=3"], "bootstrap.max_ift: 3200 → 3"),
        (["--set", "sample.candidates=8", "--reuse", "candidates"], "sample.candidates: 4 → 8"),
        (["--set", "judge.samples=5", "--reuse", "judgements"], "judge.samples: 3 → 5"),
        (["--set", "self_instruct.target=5", "--reuse", "prompts"], "self_instruct.target: 1000 → 5"),
        (["--set", "train.betta=5"], "did you mean 'train.beta'?"),
    ],
)
def test_settings_that_a_fork_cannot_have_are_refused(root: Path, arguments: list[str], told: str) -> None:
    done = fork(root, *arguments)
    assert done.returncode == 2 and told in done.stderr, done.stderr
    assert not (root / "forks").exists() and opened(root).runs.names() == ["main"]


def test_judgements_by_another_text_are_not_reused(root: Path) -> None:
    (root / "rubric.jinja").write_text(TEMPLATE + " Be kind.")
    done = fork(root, "--reuse", "judgements")
    assert done.returncode == 2 and "not the one that the judgements were made with" in done.stderr
    assert fork(root, "--reuse", "candidates").returncode == 0


@pytest.mark.parametrize(
    ("t", "name", "told"),
    [
        (3, "x", "run 'main' has no M_3 to go on from\nIterations to fork from: 1, 2."),
        (0, "x", "no M_0"),
        (1, "main", "there is a run 'main' already"),
        (1, "Beta", "no name for a run"),
        (1, "../x", "no name for a run"),
    ],
)
def test_a_fork_needs_a_free_name_and_a_stored_model(root: Path, t: int, name: str, told: str) -> None:
    done = fork(root, t=t, name=name)
    assert done.returncode == 2 and told in done.stderr


def test_an_unfinished_iteration_is_not_reused(root: Path) -> None:
    done = fork(root, "--reuse", "prompts", t=2)
    assert done.returncode == 2 and "not done there: self_instruct" in done.stderr
    assert fork(root, t=2).returncode == 0, "without reuse it begins anew"


def test_a_model_that_retention_removed_is_not_forked_from(root: Path) -> None:
    store = opened(root)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE checkpoint SET removed_at = created_at WHERE version = 1")
    store.close()
    done = fork(root)
    assert done.returncode == 2 and "the files of M_1 of run 'main' were removed" in done.stderr


def test_what_a_kill_leaves_of_a_fork_is_told_and_replaced(root: Path) -> None:
    left = root / "forks" / "beta05"
    left.mkdir(parents=True)
    (left / SETTINGS_FILE).write_text(
        'name = "beta05"\nmodel = "x"\ndatabase.url = "sqlite:///../../selfreward.db"'
    )
    refused = selfreward("start", "--dir", str(root), "--run", "beta05")
    assert refused.returncode == 2 and "was not made to its end" in refused.stderr
    assert opened(root).runs.names() == ["main"]
    assert fork(root).returncode == 0
    assert load_settings(left, environ={}).model == "org/name"


def test_a_run_is_named_beside_its_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork(root)
    asked = ["query", "--csv", "select 1 as n"]
    for place in (root, root / "forks" / "beta05"):
        for name in ("main", "beta05"):
            done = selfreward(*asked, "--dir", str(place), "--run", name)
            assert (done.returncode, done.stdout.split()) == (0, ["n", "1"]), done.stderr
    unknown = selfreward("status", "--run", "gamma", "--dir", str(root))
    assert unknown.returncode == 2 and "Runs: main, beta05." in unknown.stderr
    monkeypatch.chdir(root)
    told = json.loads(selfreward("status", "--json", "--run", "beta05").stdout)
    assert (told["run"], told["forked_from"], told["from_iteration"]) == ("beta05", "main", 1)
    assert run_option(Path("forks/beta05")) == " --run beta05" and run_option(Path()) == ""
    assert run_option(root.parent) == f" --dir {root.parent}"


def test_only_a_directory_below_a_runs_forks_is_a_fork(tmp_path: Path) -> None:
    alone = tmp_path / "forks" / "run"
    alone.mkdir(parents=True)
    assert root_of(alone) == alone
    (tmp_path / SETTINGS_FILE).write_text("")
    assert root_of(alone) == tmp_path


def test_runs_are_shown_as_a_tree(root: Path) -> None:
    fork(root)
    selfreward("fork", "--dir", str(root), "--run", "beta05", "--from-iteration", "1", "--name", "deeper")
    fork(root, t=2, name="late")
    told = selfreward("runs", "--dir", str(root)).stdout.splitlines()
    assert [line.partition("  0")[0] for line in told[1:]] == ["├── beta05", "│   └── deeper", "└── late"]
    assert told[0] == "main  1 iteration done, newest M_2"
    assert told[2].endswith("0 iterations done, newest M_1  from iteration 1 of beta05")
    found = json.loads(selfreward("runs", "--dir", str(root), "--run", "late", "--json").stdout)
    assert found[3] == {
        "name": "late",
        "parent": "main",
        "from_iteration": 2,
        "iterations_done": 0,
        "newest": "M_2",
        "running": False,
        "owner": None,
    }


def test_a_fork_shares_its_seeds_unless_they_are_set(root: Path) -> None:
    fork(root)
    other = fork(root, "--set", 'seeds.files=["builtin"]', name="other")
    assert "seeds of its own" in other.stdout
    tree = {node.name: node.seeds_run_id for node in opened(root).runs.tree().values()}
    assert tree == {"main": None, "beta05": 1, "other": None}
    done = selfreward("seeds", "import", "builtin", "--dir", str(root), "--run", "beta05")
    assert done.returncode == 2 and "--run main" in done.stderr


def test_a_fork_without_a_name_gets_one_that_is_free(root: Path) -> None:
    store = opened(root)
    assert free_name(store, "main", 1) == "main-from-1"
    fork(root, name="main-from-1")
    assert free_name(store, "main", 1) == "main-from-1-2"
    assert len(free_name(store, "m" * 63, 1)) <= 63
    named = selfreward("resume", "--dir", str(root), "--name", "x")
    assert named.returncode == 2 and "--from-iteration" in named.stderr


def test_changes_are_told_by_key_and_those_that_make_nothing_do_not_matter() -> None:
    new = Settings.model_validate(
        {"train": {"beta": 0.5, "save_minutes": 1}, "engine": {"concurrency": 1}, "iterations": 7}
    )
    found = changes(Settings().model_dump(mode="json"), new)
    assert {change.key for change in found} == {
        "train.beta",
        "train.save_minutes",
        "engine.concurrency",
        "iterations",
    }
    [change] = that_matter(found)
    assert (change.shown, change.override) == ("train.beta: 0.1 → 0.5", "train.beta=0.5")


def test_settings_that_a_new_version_added_or_dropped_are_no_change() -> None:
    before = Settings().model_dump(mode="json")
    del before["train"]["beta"], before["gates"]
    before["train"]["gone"] = before["dropped"] = 1
    assert changes(before, Settings()) == []
    assert [change.key for change in changes(before, with_beta(0.3))] == ["train.beta"]


def with_beta(beta: float) -> Settings:
    return Settings.model_validate({"train": {"beta": beta}})


def test_changed_settings_are_refused_with_what_to_do(root: Path) -> None:
    store = opened(root)
    settings = load_settings(root, ["train.beta=0.3", "self_instruct.target=9"])
    with pytest.raises(BadInput) as refused:
        check_settings(store, main_run(store), settings, root, accepted=False)
    assert refused.value.message.splitlines()[1:] == [
        "  self_instruct.target: 1000 → 9",
        "  train.beta: 0.1 → 0.3",
    ]
    assert "--accept-changed-settings" in refused.value.hint
    [command] = [line for line in refused.value.hint.splitlines() if "selfreward fork" in line]
    arguments = command.partition("selfreward ")[2].split()
    assert selfreward(*arguments).returncode == 0, "the command that is named works"
    made = load_settings(root / "forks" / "main-2", environ={})
    assert (made.train.beta, made.self_instruct.target) == (0.3, 9)
    node = opened(root).runs.tree()[2]
    assert node.parent_iteration == 2, "the iteration that is not done"
    check_settings(store, main_run(store), load_settings(root, ["engine.concurrency=1"]), root, False)


def test_accepted_changes_are_written_down(root: Path) -> None:
    store = opened(root)
    run, settings = main_run(store), load_settings(root, ["train.beta=0.3"])
    check_settings(store, run, settings, root, accepted=True)
    [event] = store.journal.events(run.id)
    assert (event.kind, event.data) == ("settings_changed", {"changes": {"train.beta": [0.1, 0.3]}})
    store.runs.open_iteration(run.id, 2, 2, settings)
    check_settings(store, run, settings, root, accepted=False)


def test_a_fork_keeps_the_seeds_it_shares(root: Path) -> None:
    fork(root)
    store, directory = opened(root), root / "forks" / "beta05"
    run = store.runs.find("beta05")
    assert run is not None
    check_settings(store, run, load_settings(directory), directory, accepted=False)
    other = load_settings(directory, ['seeds.files=["builtin"]'])
    with pytest.raises(BadInput, match="seeds of the run it was forked from"):
        check_settings(store, run, other, directory, accepted=True)


def test_other_versions_are_warned_about_once_they_were_used(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = opened(root), Said()
    run = main_run(store)
    warn_of_versions(store, run, said)
    assert said.lines == []
    monkeypatch.setattr("selfreward.continuity.versions", lambda: {"python": "3.11", "trl": "99"})
    warn_of_versions(store, run, said)
    assert len(said.lines) == 1 and " → 99" in said.lines[0]
    [event] = store.journal.events(run.id)
    assert event.kind == "versions_changed" and event.data["now"]["trl"] == "99"


def test_the_choices_of_the_command_are_those_of_the_store() -> None:
    from selfreward.cli.fork import ReuseChoice

    assert [choice.value for choice in ReuseChoice] == [reuse.value for reuse in Reuse]


class Said:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, *_: object) -> None: ...
    def progress(self, *_: object, **__: float) -> None: ...
    def end(self, *_: object) -> None: ...

    def say(self, message: str, **_: object) -> None:
        self.lines.append(message)
