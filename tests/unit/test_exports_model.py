"""`selfreward export model`, and pushing to a hub that is a stub on the loopback."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfreward.errors import BadInput, SelfRewardError
from selfreward.exports import hub
from selfreward.exports.reading import read_pairs
from selfreward.training.manifest import read as read_manifest
from tests.commands import Done, selfreward
from tests.hub_stub import HubStub, serving


@pytest.fixture
def export(done_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, on that run, in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, directory: Path = done_run) -> Done:
        return selfreward("export", *arguments, "--dir", str(directory))

    return run


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub on the loopback, and a token for it."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving() as hub_stub:
        monkeypatch.setenv("HF_ENDPOINT", hub_stub.url)
        yield hub_stub


def test_a_model_comes_whole_and_verified_with_its_card(export: Any, tmp_path: Path, done_run: Path) -> None:
    done = export("model", "M_3", "m3")
    assert done.returncode == 0, done.stderr
    written, stored = tmp_path / "m3", done_run / "models" / "M_3"
    assert sorted(path.name for path in written.iterdir()) == sorted(
        [*(path.name for path in stored.iterdir()), "README.md"]
    )
    for path in stored.iterdir():
        assert (written / path.name).read_bytes() == path.read_bytes()
        assert (written / path.name).stat().st_ino != path.stat().st_ino
    manifest = read_manifest(written)
    assert manifest is not None


def test_the_card_has_the_whole_lineage_and_what_was_measured(
    export: Any, tmp_path: Path, done_run: Path
) -> None:
    export("model", "M_3", "m3")
    text = (tmp_path / "m3" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "transformers" and "selfreward" in front["tags"]
    assert "base_model" not in front  # it came from a directory, which the hub does not know
    for name in ("M_1", "M_2", "M_3"):
        manifest = read_manifest(done_run / "models" / name)
        assert manifest is not None and f"`{manifest.digest}`" in text
    assert "| 1 | M_1 | 12 | 48 |" in text and "| 2 | M_2 | 12 | 48 |" in text
    assert "| judge | pairwise_accuracy |" in text and "beta = 0.1" in text
    assert "transformers" in text and "## Limits" in text and "M_3" in text.split("# M_3")[1]
    assert 'from_pretrained("m3"' in text


def test_links_save_the_disk_only_when_asked_for(export: Any, tmp_path: Path, done_run: Path) -> None:
    assert export("model", "M_2", "m2", "--link").returncode == 0
    weights, config = (done_run / "models" / "M_2" / name for name in ("model.safetensors", "config.json"))
    assert (tmp_path / "m2" / weights.name).stat().st_ino == weights.stat().st_ino
    assert (tmp_path / "m2" / config.name).stat().st_ino != config.stat().st_ino


def test_a_model_whose_files_have_changed_is_not_exported(
    export: Any, tmp_path: Path, done_run: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done_run, copy)
    weights = copy / "models" / "M_3" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    done = export("model", "M_3", "m3", directory=copy)
    assert done.returncode == 1 and "is not what was written" in done.stderr and "verify" in done.stderr
    assert not (tmp_path / "m3").exists()


def test_a_fork_exports_its_own_model(export: Any, tmp_path: Path, done_run: Path) -> None:
    assert export("model", "M_2", "fork", "--run", "beta05").returncode == 0
    assert export("model", "M_2", "main").returncode == 0
    one, other = (read_manifest(tmp_path / name) for name in ("fork", "main"))
    assert one is not None and other is not None and one.digest != other.digest
    text = (tmp_path / "fork" / "README.md").read_text()
    assert (
        "beta = 0.5" in text
        and "| M_1 | base | – | main |" in text
        and "| M_2 | dpo | M_1 | beta05 |" in text
    )


def test_a_model_is_pushed_whole_to_a_private_repository(export: Any, stub: HubStub, tmp_path: Path) -> None:
    done = export("model", "M_2", "m2", "--push", "me/my-model")
    assert done.returncode == 0, done.stderr
    assert f"pushed it to {stub.url}/me/my-model" in done.stdout
    assert stub.files == {path.name: path.read_bytes() for path in (tmp_path / "m2").iterdir()}
    [created] = stub.created
    assert (created["organization"], created["name"]) == ("me", "my-model")
    assert created["visibility"] == "private"
    assert stub.tokens == {"Bearer hf_secret"}
    assert b'from_pretrained("me/my-model"' in stub.files["README.md"]
    assert not any(b"hf_secret" in content for content in stub.files.values())


def test_a_data_set_is_pushed_and_can_be_public(export: Any, stub: HubStub, tmp_path: Path) -> None:
    done = export("pairs", "--iteration", "1", "out", "--push", "me/pairs", "--public")
    assert done.returncode == 0, done.stderr
    [created] = stub.created
    assert created["type"] == "dataset" and created["visibility"] == "public"
    assert set(stub.files) == {"README.md", "pairs-iteration-1.parquet"}
    (tmp_path / "back.parquet").write_bytes(stub.files["pairs-iteration-1.parquet"])
    assert len(list(read_pairs(tmp_path / "back.parquet"))) == 12


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, BadInput, "does not accept the token"),
        (403, BadInput, "does not let you write"),
        (404, BadInput, "no such owner"),
        (500, SelfRewardError, "refuses it"),
    ],
)
def test_a_hub_that_refuses_is_quoted_with_what_helps(
    stub: HubStub, tmp_path: Path, status: int, error: type[SelfRewardError], said: str
) -> None:
    (tmp_path / "README.md").write_text("x")
    stub.refuse = status
    with pytest.raises(error, match=said) as caught:
        hub.push(tmp_path, "me/x", "model")
    assert str(status) in caught.value.message and caught.value.hint and "hf_secret" not in str(caught.value)


def test_a_hub_that_is_not_there_is_said(
    stub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SelfRewardError, match="cannot be reached"):
        hub.push(tmp_path, "me/x", "model")


def test_a_push_that_fails_leaves_the_export(export: Any, stub: HubStub, tmp_path: Path) -> None:
    stub.refuse = 403
    done = export("pairs", "--iteration", "1", "out", "--push", "me/pairs")
    assert done.returncode == 2 and "was not pushed" in done.stderr
    assert len(list(read_pairs(tmp_path / "out"))) == 12


@pytest.mark.parametrize(
    ("name", "said"), [("a/b/c", "OWNER/NAME"), ("me", "owner"), ("me/..", "OWNER/NAME")]
)
def test_a_name_that_the_hub_cannot_have_is_refused_before_any_work(
    export: Any, stub: HubStub, tmp_path: Path, name: str, said: str
) -> None:
    done = export("pairs", "--iteration", "1", "out", "--push", name)
    assert done.returncode == 2 and said in done.stderr and list(tmp_path.iterdir()) == []


def test_without_a_token_nothing_is_begun(
    export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = export("model", "M_2", "m2", "--push", "me/x")
    assert done.returncode == 2 and "hf auth login" in done.stderr and list(tmp_path.iterdir()) == []
