"""comparisons, several pairs of a prompt, imported preferences, anchors, rewards, agreement, meta-judging"""

from types import ModuleType

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Utc = sa.DateTime(timezone=True)

# Each candidate of the pair's prompt. Imported ones have no iteration and no judge.
LINEAGE = """
    SELECT
        run.name AS run,
        iteration.t AS t,
        preference_pair.id AS pair_id,
        prompt.id AS prompt_id,
        prompt.text AS prompt,
        {demonstrations} AS demonstrations,
        candidate.id AS candidate_id,
        candidate.candidate_index AS candidate_index,
        CASE candidate.id WHEN preference_pair.chosen_id THEN 'chosen'
                          WHEN preference_pair.rejected_id THEN 'rejected'
                          ELSE 'other' END AS role,
        candidate.text AS candidate,
        judgement.id AS judgement_id,
        judgement.sample AS sample,
        judgement.score AS score,
        judgement.raw_text AS judgement,
        preference_pair.judge_id AS judge_id,
        writer.name AS written_by,
        judged_by.name AS judged_by,
        CASE WHEN preference_pair.excluded IS NULL THEN trained.name END AS trained
    FROM preference_pair
    JOIN prompt ON prompt.id = preference_pair.prompt_id
    JOIN candidate ON candidate.prompt_id = preference_pair.prompt_id
    LEFT JOIN judgement ON judgement.candidate_id = candidate.id
                       AND judgement.judge_id = preference_pair.judge_id
    JOIN iteration ON iteration.id = preference_pair.iteration_id
    JOIN run ON run.id = iteration.run_id
    LEFT JOIN judge ON judge.id = preference_pair.judge_id
    LEFT JOIN checkpoint AS judged_by ON judged_by.id = judge.checkpoint_id
    LEFT JOIN iteration AS sampled ON sampled.id = candidate.iteration_id
    LEFT JOIN engine_session ON engine_session.id = candidate.session_id
    LEFT JOIN checkpoint AS writer
      ON writer.id = coalesce(candidate.checkpoint_id, engine_session.checkpoint_id, sampled.checkpoint_id)
    LEFT JOIN checkpoint AS trained
      ON trained.run_id = iteration.run_id AND trained.name = 'M_' || (iteration.t + 1)
"""
# Two orders of the same two contradict each other when the one shown first, or second, wins both times.
POSITION_BIAS = """
    SELECT
        run.name AS run,
        iteration.t AS t,
        shown.judge_id AS judge_id,
        shown.comparisons AS comparisons,
        shown.first_share AS first_share,
        turned.flipped_share AS flipped_share
    FROM (
        SELECT iteration_id, judge_id, count(*) AS comparisons, avg(probability_first) AS first_share
        FROM candidate_comparison WHERE status = 'read' GROUP BY iteration_id, judge_id
    ) AS shown
    JOIN iteration ON iteration.id = shown.iteration_id
    JOIN run ON run.id = iteration.run_id
    LEFT JOIN (
        SELECT
            one.iteration_id AS iteration_id,
            one.judge_id AS judge_id,
            CAST(count(*) FILTER (
                WHERE (one.probability_first - 0.5) * (other.probability_first - 0.5) > 0
            ) AS FLOAT) / count(*) AS flipped_share
        FROM candidate_comparison AS one
        JOIN candidate_comparison AS other
          ON other.judge_id = one.judge_id
         AND other.first_id = one.second_id AND other.second_id = one.first_id
        WHERE one.first_id < one.second_id AND one.status = 'read' AND other.status = 'read'
        GROUP BY one.iteration_id, one.judge_id
    ) AS turned ON turned.iteration_id = shown.iteration_id AND turned.judge_id = shown.judge_id
"""
# Goes into the work that the view has counted before.
MORE_WORK = """
        SELECT iteration_id, 'anchor', count(*), CAST(sum(token_count) AS BIGINT)
          FROM candidate WHERE checkpoint_id IS NOT NULL GROUP BY iteration_id
        UNION ALL
        SELECT iteration_id, 'judge_previous', count(*), NULL FROM consistency GROUP BY iteration_id
        UNION ALL
        SELECT iteration_id, 'meta_judge', count(*), CAST(sum(token_count) AS BIGINT)
          FROM judgement_comparison GROUP BY iteration_id
        UNION ALL
"""
WORK = "WITH work(iteration_id, stage, items, tokens) AS ("
# Views of the tables that SQLite copies; they come back as they were unless they are redefined.
REMADE = ("iteration_summary", "length_by_iteration", "lineage", "throughput")

# (table, column, type, comment before, comment now)
COMMENTS = (
    (
        "prompt",
        "iteration_id",
        Id,
        "The iteration that wrote it; NULL for seeds.",
        "The iteration that wrote it; NULL for seeds and imported ones.",
    ),
    (
        "prompt",
        "source",
        sa.Text(),
        "seed or self_instruct.",
        "seed, self_instruct or imported (with preferences).",
    ),
    (
        "prompt",
        "origin",
        sa.Text(),
        "Seeds: the file it came from.",
        "Seeds and imported ones: the file it came from.",
    ),
    (
        "candidate",
        "candidate_index",
        sa.Integer(),
        "0 to N-1.",
        "0 to N-1; anchors come after those.",
    ),
    (
        "candidate",
        "finish_reason",
        sa.Text(),
        "As the engine said: stop, length, …",
        "As the engine said: stop, length, …; or imported.",
    ),
    (
        "candidate",
        "token_count",
        sa.Integer(),
        "Tokens of the answer.",
        "Tokens of the answer; 0 if imported.",
    ),
    (
        "judge",
        "type",
        sa.Text(),
        "rubric (scores one reply) or pairwise (compares two).",
        "rubric (scores one reply), pairwise (compares two), reward_model or meta (compares judgements).",
    ),
    (
        "pair_decision",
        "outcome",
        sa.Text(),
        "paired, unscored, tie, twins, below_margin or pair_too_long.",
        "paired, unscored, tie, twins, below_margin, unanchored, surplus or pair_too_long.",
    ),
    (
        "preference_pair",
        "excluded",
        sa.Text(),
        "Why it was left out of training (too_long); NULL if it was not.",
        "Why it was left out of training (too_long, imported_share, balance); NULL if it was not.",
    ),
    ("checkpoint", "version", sa.Integer(), "t of M_t.", "t of M_t or R_t."),
    (
        "checkpoint",
        "name",
        sa.Text(),
        "M_t as text; M_0_ift is the SFT baseline of the bootstrap.",
        "M_t as text; M_0_ift is the SFT baseline of the bootstrap, R_t a reward model.",
    ),
    (
        "checkpoint",
        "kind",
        sa.Text(),
        "base, sft or dpo: what made it.",
        "What made it: base, sft, dpo or another objective's name, copy, reward.",
    ),
)
TABLE_COMMENTS = {
    "candidate": "An answer to a prompt: one of M_t's N, an earlier model's, or an imported one.",
    "checkpoint": "A model on disk: M_version of a run, or a reward model R_version.",
}
SCORES = {
    "judge_id": (Id, "Whose scores made it.", "Whose scores made it; NULL for an imported one."),
    "chosen_score": (
        sa.Float(53),
        "Mean score of the chosen one.",
        "Mean score of the chosen one, if it has any.",
    ),
    "rejected_score": (
        sa.Float(53),
        "Mean score of the rejected one.",
        "Mean score of the rejected one, if it has any.",
    ),
    "margin": (
        sa.Float(53),
        "chosen_score - rejected_score.",
        "chosen_score - rejected_score, if both are there.",
    ),
}


def upgrade() -> None:
    for name in REMADE:
        op.execute(f"DROP VIEW {name}")
    _widen_candidates()
    _widen_pairs()
    op.add_column("judgement", sa.Column("reward", sa.Float(53), nullable=True, comment=REWARD))
    imported = sa.text("source = 'imported'")
    op.create_index(
        "uq_prompt_imported",
        "prompt",
        ["run_id", "text_hash"],
        unique=True,
        sqlite_where=imported,
        postgresql_where=imported,
    )
    _make_comparisons("candidate", "candidate", "two_candidates")
    _make_comparisons("judgement", "judgement", "two_judgements")
    _make_imported()
    _make_consistency()
    _make_judgement_pairs()
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        for table, column, kind, before, now in COMMENTS:
            op.alter_column(table, column, existing_type=kind, comment=now, existing_comment=before)
        for table, comment in TABLE_COMMENTS.items():
            op.create_table_comment(table, comment)
    before = _before()
    views = {name: before._said(before.VIEWS[name]) for name in REMADE}
    views["lineage"] = before._said(LINEAGE)
    views["throughput"] = views["throughput"].replace(WORK, WORK + MORE_WORK)
    for name, query in (views | {"position_bias": POSITION_BIAS}).items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    raise NotImplementedError("several pairs of a prompt and imported ones would be lost: restore a backup")


def _before() -> ModuleType:
    """The revision that defined the views last."""
    script = context.script.get_revision("0004")
    assert script is not None
    return script.module


def _widen_candidates() -> None:
    with op.batch_alter_table("candidate") as batch:
        batch.alter_column(
            "iteration_id",
            existing_type=Id,
            nullable=True,
            comment="The iteration that sampled it; NULL for an imported one.",
            existing_comment="The iteration that sampled it.",
        )
        batch.add_column(sa.Column("checkpoint_id", Id, nullable=True, comment=ANCHOR))
        batch.create_foreign_key("fk_candidate_checkpoint_id", "checkpoint", ["checkpoint_id"], ["id"])
    anchors = sa.text("checkpoint_id IS NOT NULL")
    op.create_index(
        "ix_candidate_anchor",
        "candidate",
        ["iteration_id", "id"],
        sqlite_where=anchors,
        postgresql_where=anchors,
    )


def _widen_pairs() -> None:
    one = "uq_preference_pair_iteration_id_prompt_id"
    with op.batch_alter_table("preference_pair") as batch:
        for column, (kind, before, now) in SCORES.items():
            batch.alter_column(
                column, existing_type=kind, nullable=True, comment=now, existing_comment=before
            )
        batch.add_column(sa.Column("origin", sa.Text(), nullable=False, server_default="ai", comment=ORIGIN))
        batch.drop_constraint(one, type_="unique")
        batch.create_unique_constraint(
            f"{one}_chosen_id_rejected_id", ["iteration_id", "prompt_id", "chosen_id", "rejected_id"]
        )


def _make_comparisons(what: str, target: str, check: str) -> None:
    """`candidate_comparison` and `judgement_comparison`."""
    table = f"{what}_comparison"
    of_candidates = what == "candidate"
    lost = [sa.Column("lost_mass", sa.Float(53), nullable=True, comment=LOST_MASS)] if of_candidates else []
    op.create_table(
        table,
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that had them compared."),
        sa.Column(
            "judge_id",
            Id,
            nullable=False,
            comment="Who compares, and how" + ("." if of_candidates else ": a judge of type meta."),
        ),
        sa.Column("first_id", Id, nullable=False, comment=f"The {what} that was shown first."),
        sa.Column("second_id", Id, nullable=False, comment=f"The {what} that was shown second."),
        sa.Column("session_id", Id, nullable=True, comment="The engine session that compared."),
        sa.Column("status", sa.Text(), nullable=False, comment="read, unreadable, too_long or failed."),
        sa.Column(
            "probability_first",
            sa.Float(53),
            nullable=True,
            comment=("P(1) / (P(1) + P(2)): that" if of_candidates else "That")
            + " the first is better, 0 to 1; NULL unless the status is read.",
        ),
        *lost,
        sa.Column(
            "raw_text",
            sa.Text(),
            nullable=False,
            comment=("The judge's reasoning" if of_candidates else "What the model wrote")
            + "; empty when it was only asked.",
        ),
        sa.Column("token_count", sa.Integer(), nullable=False, comment="Tokens it wrote."),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.CheckConstraint("first_id <> second_id", name=op.f(f"ck_{table}_{check}")),
        sa.CheckConstraint(
            "(probability_first IS NOT NULL) = (status = 'read')",
            name=op.f(f"ck_{table}_probability_iff_read"),
        ),
        sa.CheckConstraint(
            "probability_first IS NULL OR (probability_first >= 0 AND probability_first <= 1)",
            name=op.f(f"ck_{table}_probability_range"),
        ),
        _refers(table, "iteration_id", "iteration"),
        _refers(table, "judge_id", "judge"),
        _refers(table, "first_id", target),
        _refers(table, "second_id", target),
        _refers(table, "session_id", "engine_session"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint(
            "judge_id", "first_id", "second_id", name=op.f(f"uq_{table}_judge_id_first_id_second_id")
        ),
        comment=f"Which of two {what}s of "
        + ("a prompt a judge" if of_candidates else "one candidate a model")
        + " prefers, shown in one order.",
    )
    op.create_index(f"ix_{table}_iteration", table, ["iteration_id", "judge_id"])


def _make_imported() -> None:
    table = "imported_preference"
    op.create_table(
        table,
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False, comment="Its run."),
        sa.Column("prompt_id", Id, nullable=False, comment="The prompt, imported with it."),
        sa.Column("chosen_id", Id, nullable=False, comment="The better answer."),
        sa.Column("rejected_id", Id, nullable=False, comment="The worse answer."),
        sa.Column("origin", sa.Text(), nullable=False, comment="Name of the file it came from."),
        sa.Column(
            "chosen_score",
            sa.Float(53),
            nullable=True,
            comment="Score of the chosen one, where the file has it.",
        ),
        sa.Column(
            "rejected_score",
            sa.Float(53),
            nullable=True,
            comment="Score of the rejected one, where the file has it.",
        ),
        sa.Column("soft_label", sa.Float(53), nullable=True, comment=SOFT_LABEL),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.CheckConstraint("chosen_id <> rejected_id", name=op.f(f"ck_{table}_two_candidates")),
        _refers(table, "run_id", "run"),
        _refers(table, "prompt_id", "prompt"),
        _refers(table, "chosen_id", "candidate"),
        _refers(table, "rejected_id", "candidate"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint(
            "run_id",
            "prompt_id",
            "chosen_id",
            "rejected_id",
            name=op.f(f"uq_{table}_run_id_prompt_id_chosen_id_rejected_id"),
        ),
        comment="A preference that a user has imported; iterations draw preference pairs from these.",
    )


def _make_consistency() -> None:
    table = "consistency"
    op.create_table(
        table,
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that trains on it."),
        sa.Column("prompt_id", Id, nullable=False, comment="The prompt."),
        sa.Column("judge_id", Id, nullable=False, comment="M_t as a judge."),
        sa.Column("previous_judge_id", Id, nullable=False, comment="The model before it as a judge."),
        sa.Column("tau", sa.Float(53), nullable=True, comment=TAU),
        sa.Column("candidates", sa.Integer(), nullable=False, comment="Candidates that both have scored."),
        _refers(table, "iteration_id", "iteration"),
        _refers(table, "prompt_id", "prompt"),
        _refers(table, "judge_id", "judge"),
        _refers(table, "previous_judge_id", "judge"),
        sa.PrimaryKeyConstraint("iteration_id", "prompt_id", name=op.f(f"pk_{table}")),
        comment="Agreement of M_t's ranking of a prompt's candidates with that of the model before it.",
    )


def _make_judgement_pairs() -> None:
    table = "judgement_pair"
    op.create_table(
        table,
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that trains on it."),
        sa.Column("candidate_id", Id, nullable=False, comment="The candidate both judge."),
        sa.Column("chosen_id", Id, nullable=False, comment="The better judgement."),
        sa.Column("rejected_id", Id, nullable=False, comment="The worse judgement."),
        sa.Column("chosen_elo", sa.Float(53), nullable=False, comment="Elo rating of the chosen one."),
        sa.Column("rejected_elo", sa.Float(53), nullable=False, comment="Elo rating of the rejected one."),
        sa.Column("excluded", sa.Text(), nullable=True, comment=EXCLUDED),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.CheckConstraint("chosen_id <> rejected_id", name=op.f(f"ck_{table}_two_judgements")),
        _refers(table, "iteration_id", "iteration"),
        _refers(table, "candidate_id", "candidate"),
        _refers(table, "chosen_id", "judgement"),
        _refers(table, "rejected_id", "judgement"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint(
            "iteration_id", "candidate_id", name=op.f(f"uq_{table}_iteration_id_candidate_id")
        ),
        comment="A preference pair of judgements: what the next checkpoint learns to judge from.",
    )


def _refers(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"))


ANCHOR = "The earlier model that wrote it, as an anchor; NULL: M_t did, or it is imported."
ORIGIN = "ai (a judge's scores), or the imported file it came from."
REWARD = "A reward model's raw reward, of which the score is 5·sigmoid; NULL for other judges."
LOST_MASS = "Probability of everything but 1 and 2."
SOFT_LABEL = "Probability that chosen is better, where the file has it; NULL for a hard label."
TAU = "Kendall's tau of the two rankings, -1 to 1; NULL where one of them says nothing."
EXCLUDED = "Why it was left out of training (too_long); NULL if it was not."
