"""The bootstrap's models are made again too: the SFT baseline while it judges, and M_1."""

import shutil

from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run
from tests.integration.test_bootstrap import bootstrapped, killed_when
from tests.integration.test_restore import change_a_byte, checkpoints, events

SAMPLES = 3
ENDS_EARLY = ("--set", "train.min_pairs=100", "--set", "evaluation.enabled=false")
REPLIES = """SELECT count(*) FROM ranked_reply JOIN prompt ON prompt.id = ranked_reply.prompt_id
             WHERE prompt.split = 'train'"""


def judged_by(run: Run, name: str) -> int:
    return run.number(
        f"""SELECT count(*) FROM reply_judgement JOIN judge ON judge.id = judge_id
            JOIN checkpoint ON checkpoint.id = judge.checkpoint_id WHERE checkpoint.name = '{name}'"""
    )


def finish(run: Run, *arguments: str) -> None:
    done = run.command("start", *ENDS_EARLY, *arguments)
    assert "too few to train on" in done.stderr, done.stderr
    run.wait_until_nobody_is_left()


def test_the_baseline_and_m_1_are_made_again(make_run: MakeRun) -> None:
    run = bootstrapped(make_run, "judged", latency=0.5)
    text = run.settings.read_text().replace("[bootstrap.sft]", '[bootstrap.sft]\ntype = "fake"')
    run.settings.write_text(text)
    killed_when(run, "SELECT count(*) BETWEEN 4 AND 40 FROM reply_judgement", *ENDS_EARLY)
    assert 4 <= judged_by(run, "M_0_ift") < SAMPLES * run.number(REPLIES)

    # Under another rate, which gives another baseline: it judges every reply anew.
    run.settings.write_text(text.replace("latency = 0.5", "latency = 0.0"))
    change_a_byte(run, "M_0_ift")
    before = checkpoints(run)
    finish(run, "--accept-changed-settings", "--set", "bootstrap.sft.learning_rate=2e-3")
    after = checkpoints(run)
    assert sorted(after) == ["M_0", "M_0_ift", "M_0_ift_lost", "M_1"]
    assert after["M_0_ift_lost"] == before["M_0_ift"] != after["M_0_ift"]
    assert judged_by(run, "M_0_ift") == SAMPLES * run.number(REPLIES)
    used = """SELECT DISTINCT checkpoint.name FROM sft_example
              JOIN reply_judgement ON reply_judgement.id = reply_judgement_id
              JOIN judge ON judge.id = judge_id JOIN checkpoint ON checkpoint.id = judge.checkpoint_id"""
    assert run.rows(used) == [("M_0_ift",)], "nothing is taught that the lost one has said"

    # M_1 is trained again from M_0; the baseline is not needed any more.
    change_a_byte(run, "M_1")
    shutil.rmtree(run.directory / "models" / "M_0_ift")
    finish(run, "--set", "bootstrap.sft.learning_rate=2e-3")
    assert checkpoints(run) == after
    assert events(run, "checkpoint_restored")[-1]["message"].startswith(
        "M_1 is made again from M_0, and is the same"
    )
    models = sorted(path.name for path in (run.directory / "models").iterdir())
    assert models == ["M_0", "M_0_ift.damaged-1", "M_1", "M_1.damaged-1"]
