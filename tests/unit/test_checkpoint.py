"""A checkpoint is complete or absent, and damage to it is seen."""

import json
from pathlib import Path

import pytest

from selfreward.errors import TrainingError
from selfreward.training.checkpoint import (
    MANIFEST,
    adopt,
    adoptable,
    collect_garbage,
    publish,
    read_manifest,
    set_aside,
    temporary_path,
    verify,
    write_manifest,
)


def make(directory: Path, weights: bytes = b"w" * 1000) -> Path:
    (directory / "sub").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(weights)
    (directory / "config.json").write_text("{}")
    (directory / "sub" / "note.txt").write_text("kept")
    return directory


def test_a_written_manifest_names_every_file_and_reads_back(tmp_path: Path) -> None:
    directory = make(tmp_path / "M_1")
    digest = write_manifest(directory)
    manifest = read_manifest(directory)
    assert manifest is not None
    assert manifest.digest == digest
    assert sorted(manifest.files) == ["config.json", "model.safetensors", "sub/note.txt"]
    assert manifest.files["model.safetensors"].size == 1000
    assert verify(directory, deep=True) == []


def test_the_digest_depends_on_content_and_names_and_nothing_else(tmp_path: Path) -> None:
    one = write_manifest(make(tmp_path / "one"))
    assert write_manifest(make(tmp_path / "two")) == one
    assert write_manifest(make(tmp_path / "other", b"v" * 1000)) != one
    renamed = make(tmp_path / "renamed")
    (renamed / "config.json").rename(renamed / "konfig.json")
    assert write_manifest(renamed) != one


def test_writing_the_manifest_again_gives_the_same_digest(tmp_path: Path) -> None:
    directory = make(tmp_path / "M_1")
    assert write_manifest(directory) == write_manifest(directory)


def test_a_changed_byte_is_found_by_the_deep_check_only(tmp_path: Path) -> None:
    directory = make(tmp_path / "M_1")
    write_manifest(directory)
    (directory / "model.safetensors").write_bytes(b"w" * 999 + b"x")
    assert verify(directory) == []
    assert verify(directory, deep=True) == ["model.safetensors has other content than was written"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: (d / "model.safetensors").write_bytes(b"w"), "1 bytes instead of 1000"),
        (lambda d: (d / "config.json").unlink(), "config.json is missing"),
        (lambda d: (d / "extra.json").write_text("{}"), "extra.json is not in the manifest"),
        (lambda d: (d / MANIFEST).unlink(), "manifest.json is missing or damaged"),
        (lambda d: (d / MANIFEST).write_text('{"files": {'), "manifest.json is missing or damaged"),
        (lambda d: (d / MANIFEST).write_text("[]"), "manifest.json is missing or damaged"),
    ],
)
def test_damage_is_named_and_keeps_a_checkpoint_from_adoption(tmp_path: Path, damage, words) -> None:  # type: ignore[no-untyped-def]
    directory = make(tmp_path / "M_1")
    write_manifest(directory)
    assert adoptable(directory) is not None
    damage(directory)
    assert any(words in problem for problem in verify(directory))
    assert adoptable(directory) is None


def test_an_edited_manifest_does_not_agree_with_itself(tmp_path: Path) -> None:
    directory = make(tmp_path / "M_1")
    write_manifest(directory)
    data = json.loads((directory / MANIFEST).read_text())
    data["files"]["model.safetensors"]["size"] = 1
    (directory / MANIFEST).write_text(json.dumps(data))
    assert read_manifest(directory) is None


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "sub/weights.pkl"])
def test_pickled_weights_never_become_a_checkpoint(tmp_path: Path, name: str) -> None:
    directory = make(tmp_path / "M_1")
    (directory / name).write_bytes(b"\x80\x04.")
    with pytest.raises(TrainingError, match="pickled"):
        write_manifest(directory)
    assert not (directory / MANIFEST).exists()


def test_a_directory_without_safetensors_never_becomes_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match="no safetensors"):
        write_manifest(tmp_path)


def test_publishing_moves_the_whole_directory(tmp_path: Path) -> None:
    final = tmp_path / "M_2"
    temporary = make(temporary_path(final, 7))
    assert temporary.name == "M_2.tmp-7"
    digest = write_manifest(temporary)
    publish(temporary, final)
    assert not temporary.exists()
    assert verify(final, deep=True) == []
    manifest = adoptable(final)
    assert manifest is not None and manifest.digest == digest


def test_an_unfinished_directory_is_not_published(tmp_path: Path) -> None:
    final = tmp_path / "M_2"
    temporary = make(temporary_path(final, 1))
    with pytest.raises(TrainingError, match="not finished"):
        publish(temporary, final)
    assert not final.exists()


def test_publishing_twice_keeps_the_first_and_leaves_nothing_behind(tmp_path: Path) -> None:
    final = tmp_path / "M_2"
    for fence in (1, 2):
        temporary = make(temporary_path(final, fence))
        write_manifest(temporary)
        publish(temporary, final)
    assert [path.name for path in tmp_path.iterdir()] == ["M_2"]


def test_another_finished_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    final = make(tmp_path / "M_2")
    kept = write_manifest(final)
    temporary = make(temporary_path(final, 1), b"other")
    write_manifest(temporary)
    with pytest.raises(TrainingError, match="already holds another checkpoint"):
        publish(temporary, final)
    manifest = adoptable(final)
    assert manifest is not None and manifest.digest == kept


def test_an_incomplete_checkpoint_is_replaced(tmp_path: Path) -> None:
    final = make(tmp_path / "M_2", b"half")
    temporary = make(temporary_path(final, 1))
    digest = write_manifest(temporary)
    publish(temporary, final)
    manifest = adoptable(final)
    assert manifest is not None and manifest.digest == digest


def test_garbage_is_what_was_not_published(tmp_path: Path) -> None:
    kept = make(tmp_path / "M_1")
    write_manifest(kept)
    leftovers = [make(temporary_path(tmp_path / "M_2", fence)) for fence in (3, 4)]
    assert collect_garbage(tmp_path) == leftovers
    assert [path.name for path in tmp_path.iterdir()] == ["M_1"]
    assert collect_garbage(tmp_path / "absent") == []


def test_a_missing_directory_is_not_adoptable(tmp_path: Path) -> None:
    assert adoptable(tmp_path / "M_9") is None


# ---- what made it


def test_what_made_a_checkpoint_is_told_and_is_no_part_of_its_digest(tmp_path: Path) -> None:
    told, plain = make(tmp_path / "told"), make(tmp_path / "plain")
    assert write_manifest(told, ["a", "b", "a"]) == write_manifest(plain)
    manifest, old = read_manifest(told), read_manifest(plain)
    assert manifest is not None and manifest.made_from == ("a", "b")
    assert manifest.may_come_from("b") and not manifest.may_come_from("c")
    assert old is not None and old.may_come_from("c"), "it does not say, and is believed"


def test_a_manifest_of_before_it_told_what_made_it_still_reads(tmp_path: Path) -> None:
    directory = make(tmp_path / "M_2")
    digest = write_manifest(directory, ["a"])
    data = json.loads((directory / MANIFEST).read_text())
    del data["made_from"]
    (directory / MANIFEST).write_text(json.dumps(data))
    assert adopt(directory, "whatever", 1) == digest


def test_an_orphan_is_adopted_when_it_was_made_from_the_same(tmp_path: Path) -> None:
    final = make(tmp_path / "M_2")
    digest = write_manifest(final, ["drawn", "drawn without the long ones"])
    assert adopt(final, "drawn", 5) == digest
    assert adopt(final, "drawn without the long ones", 5) == digest
    assert [path.name for path in tmp_path.iterdir()] == ["M_2"]


def test_an_orphan_of_another_training_is_moved_aside_until_its_place_is_taken(tmp_path: Path) -> None:
    final = make(tmp_path / "M_2")
    write_manifest(final, ["old pairs"])
    assert adopt(final, "new pairs", 5) is None
    aside = tmp_path / "M_2.stale-5"
    assert [path.name for path in tmp_path.iterdir()] == [aside.name] and verify(aside, deep=True) == []
    assert collect_garbage(tmp_path) == [], "nothing has taken its place yet"
    write_manifest(make(final, b"new"), ["new pairs"])
    assert collect_garbage(tmp_path) == [aside]


def test_an_orphan_that_has_changed_is_not_adopted(tmp_path: Path) -> None:
    final = make(tmp_path / "M_2")
    write_manifest(final, ["pairs"])
    (final / "model.safetensors").write_bytes(b"x" * 1000)
    assert adopt(final, "pairs", 5) is None
    assert not final.exists()


def test_a_half_written_orphan_is_not_adopted_and_may_be_replaced(tmp_path: Path) -> None:
    final = make(tmp_path / "M_2")
    assert adopt(final, "pairs", 5) is None
    temporary = make(temporary_path(final, 5))
    digest = write_manifest(temporary, ["pairs"])
    publish(temporary, final)
    assert adopt(final, "pairs", 5) == digest


def test_what_is_set_aside_is_never_overwritten(tmp_path: Path) -> None:
    names = [set_aside(make(tmp_path / "M_3", bytes([number])), "damaged").name for number in range(3)]
    assert names == ["M_3.damaged-1", "M_3.damaged-2", "M_3.damaged-3"]
    assert [(tmp_path / name / "model.safetensors").read_bytes() for name in names] == [b"\0", b"\1", b"\2"]
    assert collect_garbage(tmp_path) == []
