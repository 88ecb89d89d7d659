"""tallies, best and worst scores, search of prompts, views to analyse runs with, and the indexes they need"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# What is below counts as nothing: PostgreSQL would refuse to square it.
SCORE = "CASE WHEN judgement.score < 1e-9 THEN 0.0 ELSE judgement.score END"
# What the two databases say differently.
SQLITE = {
    "score": SCORE,
    "tenth": "CAST(judgement.score * 10 + 0.5 AS INTEGER)",
    # Newton's method: not every build of SQLite has sqrt().
    "score_sd": """(
            WITH RECURSIVE newton(n, root) AS (
                SELECT 0, (judged.variance + 1) / 2
                UNION ALL
                SELECT n + 1, (root + judged.variance / root) / 2 FROM newton WHERE n < 20
            )
            SELECT CASE WHEN judged.variance < 1e-9 THEN 0.0 ELSE root END FROM newton WHERE n = 20
        )""",
    "largest": "max",
    "demonstrations": """(
            SELECT group_concat(shown.demonstration_id, ',') FROM (
                SELECT prompt_demonstration.demonstration_id FROM prompt_demonstration
                WHERE prompt_demonstration.prompt_id = prompt.id ORDER BY prompt_demonstration.position
            ) AS shown
        )""",
    "seconds": "(julianday(stage.finished_at) - julianday(stage.started_at)) * 86400.0",
}
POSTGRESQL = {
    "score": SCORE,
    "tenth": "CAST(floor(judgement.score * 10 + 0.5) AS INTEGER)",
    "score_sd": "sqrt(judged.variance)",
    "largest": "greatest",
    "demonstrations": """(
            SELECT string_agg(CAST(prompt_demonstration.demonstration_id AS TEXT), ','
                              ORDER BY prompt_demonstration.position)
            FROM prompt_demonstration WHERE prompt_demonstration.prompt_id = prompt.id
        )""",
    "seconds": "CAST(extract(epoch FROM stage.finished_at - stage.started_at) AS FLOAT)",
}

# What one judge made of one iteration's candidates. PostgreSQL would give sums of integers as decimals.
JUDGED = """
        SELECT
            sums.iteration_id,
            sums.judge_id,
            sums.judgements,
            sums.readable,
            sums.score_sum / nullif(sums.readable, 0) AS mean_score,
            CASE WHEN sums.readable > 0 THEN
                {largest}(0.0, sums.score_squares / sums.readable
                               - (sums.score_sum / sums.readable) * (sums.score_sum / sums.readable))
            END AS variance
        FROM (
            SELECT
                iteration_id,
                judge_id,
                CAST(sum(judgements) AS BIGINT) AS judgements,
                CAST(sum(CASE WHEN status = 'read' THEN judgements ELSE 0 END) AS BIGINT) AS readable,
                sum(score_sum) AS score_sum,
                sum(score_squares) AS score_squares
            FROM judgement_tally
            GROUP BY iteration_id, judge_id
        ) AS sums
"""
ITERATION_SUMMARY = f"""
    SELECT
        run.name AS run,
        iteration.t AS t,
        checkpoint.name AS checkpoint,
        iteration.status AS status,
        (SELECT count(*) FROM prompt
          WHERE prompt.iteration_id = iteration.data_iteration_id
            AND prompt.status = 'accepted') AS prompts,
        (SELECT count(*) FROM prompt
          WHERE prompt.iteration_id = iteration.data_iteration_id
            AND prompt.status = 'rejected') AS rejected_prompts,
        (SELECT CAST(coalesce(sum(candidate_tally.candidates), 0) AS BIGINT) FROM candidate_tally
          WHERE candidate_tally.iteration_id = iteration.data_iteration_id) AS candidates,
        judged.judgements AS judgements,
        judged.readable AS readable,
        judged.mean_score AS mean_score,
        (SELECT count(*) FROM preference_pair
          WHERE preference_pair.iteration_id = iteration.id
            AND preference_pair.excluded IS NULL) AS pairs,
        (SELECT avg(preference_pair.margin) FROM preference_pair
          WHERE preference_pair.iteration_id = iteration.id
            AND preference_pair.excluded IS NULL) AS mean_margin,
        (SELECT max(training_metric.step) FROM training_metric
          WHERE training_metric.iteration_id = iteration.id
            AND training_metric.stage = 'train') AS steps,
        trained.name AS trained,
        iteration.started_at AS started_at,
        iteration.finished_at AS finished_at
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    JOIN checkpoint ON checkpoint.id = iteration.checkpoint_id
    LEFT JOIN checkpoint AS trained
      ON trained.run_id = iteration.run_id AND trained.name = 'M_' || (iteration.t + 1)
    LEFT JOIN ({JUDGED}) AS judged
      ON judged.iteration_id = iteration.data_iteration_id
     AND judged.judge_id = iteration.judge_id
    WHERE iteration.status <> 'pending'
"""
SCORE_HISTOGRAM = """
    SELECT
        run.name AS run,
        iteration.t AS t,
        CASE WHEN judgement_tally.status = 'read' THEN CAST(judgement_tally.tenth AS FLOAT) / 10 END AS score,
        CAST(sum(judgement_tally.judgements) AS BIGINT) AS judgements
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    JOIN judgement_tally ON judgement_tally.iteration_id = iteration.data_iteration_id
                        AND judgement_tally.judge_id = iteration.judge_id
    GROUP BY run.name, iteration.t,
             CASE WHEN judgement_tally.status = 'read' THEN CAST(judgement_tally.tenth AS FLOAT) / 10 END
"""
JUDGE_HEALTH = f"""
    SELECT
        run.name AS run,
        iteration.t AS t,
        checkpoint.name AS checkpoint,
        judged.judgements AS judgements,
        CAST(judged.readable AS FLOAT) / judged.judgements AS readable_share,
        judged.mean_score AS mean_score,
        {{score_sd}} AS score_sd,
        (SELECT CAST(judgement_tally.tenth AS FLOAT) / 10 FROM judgement_tally
          WHERE judgement_tally.iteration_id = iteration.data_iteration_id
            AND judgement_tally.judge_id = iteration.judge_id
            AND judgement_tally.status = 'read'
          ORDER BY judgement_tally.judgements DESC, judgement_tally.tenth LIMIT 1) AS commonest_score,
        (SELECT CAST(max(judgement_tally.judgements) AS FLOAT) FROM judgement_tally
          WHERE judgement_tally.iteration_id = iteration.data_iteration_id
            AND judgement_tally.judge_id = iteration.judge_id
            AND judgement_tally.status = 'read') / nullif(judged.readable, 0) AS commonest_share,
        (SELECT CAST(count(*) FILTER (WHERE pair_decision.outcome = 'tie') AS FLOAT)
                / nullif(count(*) FILTER (WHERE pair_decision.outcome <> 'unscored'), 0)
           FROM pair_decision WHERE pair_decision.iteration_id = iteration.id) AS tie_share,
        (SELECT gate_check.value FROM gate_check
          WHERE gate_check.iteration_id = iteration.id AND gate_check.gate = 'spread') AS spread,
        (SELECT gate_check.value FROM gate_check
          WHERE gate_check.iteration_id = iteration.id
            AND gate_check.gate = 'length_correlation') AS length_correlation,
        accuracy.value AS pairwise_accuracy,
        accuracy.low AS accuracy_low,
        accuracy.high AS accuracy_high,
        (SELECT count(*) FROM gate_check
          WHERE gate_check.iteration_id = iteration.id
            AND gate_check.state IN ('warn', 'pause', 'accepted')) AS gates_raised
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    JOIN checkpoint ON checkpoint.id = iteration.checkpoint_id
    LEFT JOIN ({JUDGED}) AS judged
      ON judged.iteration_id = iteration.data_iteration_id
     AND judged.judge_id = iteration.judge_id
    LEFT JOIN evaluation AS accuracy
      ON accuracy.run_id = checkpoint.run_id
     AND accuracy.checkpoint = checkpoint.name
     AND accuracy.suite = 'judge'
     AND accuracy.metric = 'pairwise_accuracy'
    WHERE judged.judgements IS NOT NULL OR accuracy.value IS NOT NULL
"""
PAIR_OUTCOMES = """
    SELECT
        run.name AS run,
        iteration.t AS t,
        decided.outcome AS outcome,
        decided.prompts AS prompts
    FROM (
        SELECT iteration_id, outcome, count(*) AS prompts FROM pair_decision GROUP BY iteration_id, outcome
    ) AS decided
    JOIN iteration ON iteration.id = decided.iteration_id
    JOIN run ON run.id = iteration.run_id
"""
LENGTH_BY_ITERATION = """
    SELECT
        run.name AS run,
        iteration.t AS t,
        answered.candidates AS candidates,
        CAST(answered.tokens AS FLOAT) / answered.candidates AS mean_tokens,
        CAST(answered.truncated AS FLOAT) / answered.candidates AS truncated_share,
        CAST(answered.empty AS FLOAT) / answered.candidates AS empty_share,
        (SELECT CAST(avg(candidate.token_count) AS FLOAT) FROM preference_pair
           JOIN candidate ON candidate.id = preference_pair.chosen_id
          WHERE preference_pair.iteration_id = iteration.id
            AND preference_pair.excluded IS NULL) AS chosen_tokens,
        (SELECT CAST(avg(candidate.token_count) AS FLOAT) FROM preference_pair
           JOIN candidate ON candidate.id = preference_pair.rejected_id
          WHERE preference_pair.iteration_id = iteration.id
            AND preference_pair.excluded IS NULL) AS rejected_tokens
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    JOIN (
        SELECT
            iteration_id,
            CAST(sum(candidates) AS BIGINT) AS candidates,
            sum(tokens) AS tokens,
            sum(CASE WHEN status = 'truncated' THEN candidates ELSE 0 END) AS truncated,
            sum(CASE WHEN status = 'empty' THEN candidates ELSE 0 END) AS empty
        FROM candidate_tally
        GROUP BY iteration_id
    ) AS answered ON answered.iteration_id = iteration.data_iteration_id
"""
# The judgements of the pair's own judge: a fork may have had the same candidates judged by another.
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
    JOIN judge ON judge.id = preference_pair.judge_id
    LEFT JOIN checkpoint AS judged_by ON judged_by.id = judge.checkpoint_id
    JOIN iteration AS sampled ON sampled.id = candidate.iteration_id
    LEFT JOIN engine_session ON engine_session.id = candidate.session_id
    LEFT JOIN checkpoint AS writer
      ON writer.id = coalesce(engine_session.checkpoint_id, sampled.checkpoint_id)
    LEFT JOIN checkpoint AS trained
      ON trained.run_id = iteration.run_id AND trained.name = 'M_' || (iteration.t + 1)
"""
# What was measured is told by the engine session that wrote it: forks share checkpoints and their figures.
# Stages that a fork took over from its parent were never started in it, and are left out.
THROUGHPUT = """
    WITH work(iteration_id, stage, items, tokens) AS (
        SELECT iteration_id, 'self_instruct', count(*), NULL
          FROM prompt WHERE status = 'accepted' AND iteration_id IS NOT NULL GROUP BY iteration_id
        UNION ALL
        SELECT iteration_id, 'sample', CAST(sum(candidates) AS BIGINT), CAST(sum(tokens) AS BIGINT)
          FROM candidate_tally GROUP BY iteration_id
        UNION ALL
        SELECT iteration.id, 'judge', CAST(sum(judgement_tally.judgements) AS BIGINT),
               CAST(sum(judgement_tally.tokens) AS BIGINT)
          FROM iteration
          JOIN judgement_tally ON judgement_tally.iteration_id = iteration.data_iteration_id
                              AND judgement_tally.judge_id = iteration.judge_id
         GROUP BY iteration.id
        UNION ALL
        SELECT iteration_id, 'pair', count(*), NULL FROM pair_decision GROUP BY iteration_id
        UNION ALL
        SELECT iteration_id, stage, max(step), NULL FROM training_metric GROUP BY iteration_id, stage
        UNION ALL
        SELECT iteration_id, 'select', count(*), NULL FROM sft_example GROUP BY iteration_id
        UNION ALL
        SELECT engine_session.iteration_id, 'answer_held_out', count(*),
               CAST(sum(answer.token_count) AS BIGINT)
          FROM answer JOIN engine_session ON engine_session.id = answer.session_id
         GROUP BY engine_session.iteration_id
        UNION ALL
        SELECT engine_session.iteration_id, 'compare', count(*), NULL
          FROM answer_comparison
          JOIN engine_session ON engine_session.id = answer_comparison.session_id
         GROUP BY engine_session.iteration_id
        UNION ALL
        SELECT replies.iteration_id, replies.stage, count(*), CAST(sum(replies.token_count) AS BIGINT)
          FROM (
            SELECT engine_session.iteration_id AS iteration_id,
                   CASE WHEN prompt.split <> 'held_out' THEN 'judge'
                        WHEN engine_session.checkpoint_id = iteration.checkpoint_id THEN 'judge_held_out'
                        ELSE 'measure_baseline' END AS stage,
                   reply_judgement.token_count AS token_count
              FROM reply_judgement
              JOIN engine_session ON engine_session.id = reply_judgement.session_id
              JOIN iteration ON iteration.id = engine_session.iteration_id
              JOIN ranked_reply ON ranked_reply.id = reply_judgement.reply_id
              JOIN prompt ON prompt.id = ranked_reply.prompt_id
          ) AS replies
         GROUP BY replies.iteration_id, replies.stage
    )
    SELECT
        run.name AS run,
        iteration.t AS t,
        stage.name AS stage,
        stage.started_at AS started_at,
        stage.finished_at AS finished_at,
        {seconds} AS seconds,
        work.items AS items,
        work.tokens AS tokens,
        work.items / nullif({seconds}, 0) AS items_per_second,
        work.tokens / nullif({seconds}, 0) AS tokens_per_second
    FROM stage
    JOIN iteration ON iteration.id = stage.iteration_id
    JOIN run ON run.id = iteration.run_id
    LEFT JOIN work ON work.iteration_id = stage.iteration_id AND work.stage = stage.name
    WHERE stage.attempts > 0
"""
VIEWS = {
    "iteration_summary": ITERATION_SUMMARY,
    "score_histogram": SCORE_HISTOGRAM,
    "pair_outcomes": PAIR_OUTCOMES,
    "judge_health": JUDGE_HEALTH,
    "length_by_iteration": LENGTH_BY_ITERATION,
    "lineage": LINEAGE,
    "throughput": THROUGHPUT,
}
# View → the revision that defined it before.
BEFORE = {"iteration_summary": "0003", "score_histogram": "0003", "pair_outcomes": "0002"}

INDEXES = {
    "ix_pair_decision_outcome": ("pair_decision", ["iteration_id", "outcome", "prompt_id"]),
    "ix_pair_decision_best": ("pair_decision", ["iteration_id", "best_score", "prompt_id"]),
    "ix_preference_pair_margin": ("preference_pair", ["iteration_id", "margin", "prompt_id", "excluded"]),
    "ix_pair_decision_prompt": ("pair_decision", ["prompt_id"]),
    "ix_preference_pair_prompt": ("preference_pair", ["prompt_id"]),
}
REJECTED = "ix_prompt_rejected"
# As SQLite's manual has it for an index that keeps no texts of its own.
SEARCH_SQLITE = (
    """CREATE VIRTUAL TABLE prompt_search
       USING fts5(text, content='prompt', content_rowid='id', prefix='1 2 3')""",
    """CREATE TRIGGER prompt_search_insert AFTER INSERT ON prompt BEGIN
        INSERT INTO prompt_search (rowid, text) VALUES (new.id, new.text);
    END""",
    """CREATE TRIGGER prompt_search_delete AFTER DELETE ON prompt BEGIN
        INSERT INTO prompt_search (prompt_search, rowid, text) VALUES ('delete', old.id, old.text);
    END""",
    """CREATE TRIGGER prompt_search_update AFTER UPDATE OF id, text ON prompt BEGIN
        INSERT INTO prompt_search (prompt_search, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO prompt_search (rowid, text) VALUES (new.id, new.text);
    END""",
    "INSERT INTO prompt_search (prompt_search) VALUES ('rebuild')",
)
TRIGGERS = ("prompt_search_insert", "prompt_search_delete", "prompt_search_update")
SEARCH_POSTGRESQL = ("CREATE INDEX ix_prompt_search ON prompt USING gin (to_tsvector('simple', text))",)

FILL = (
    """INSERT INTO candidate_tally (iteration_id, status, candidates, tokens)
       SELECT iteration_id, status, count(*), sum(token_count) FROM candidate GROUP BY 1, 2""",
    """INSERT INTO judgement_tally (iteration_id, judge_id, status, tenth, judgements, score_sum,
                                    score_squares, tokens)
       SELECT candidate.iteration_id, judgement.judge_id, judgement.status,
              CASE WHEN judgement.status = 'read' THEN {tenth} ELSE 0 END, count(*),
              coalesce(sum({score}), 0), coalesce(sum({score} * {score}), 0), sum(judgement.token_count)
         FROM judgement JOIN candidate ON candidate.id = judgement.candidate_id
        GROUP BY 1, 2, 3, 4""",
)
# Of the candidates that took part in the drawing of pairs, as the settings of the iteration say which.
SCORES = """
    UPDATE pair_decision SET best_score = scored.best, worst_score = scored.worst
      FROM (
        SELECT means.prompt_id, max(means.score) AS best, min(means.score) AS worst
          FROM (
            SELECT candidate.prompt_id, avg(judgement.score) AS score
              FROM candidate
              JOIN judgement ON judgement.candidate_id = candidate.id AND judgement.judge_id = :judge
             WHERE candidate.iteration_id = :data
               AND (candidate.status = 'ok' OR (:use_truncated = 1 AND candidate.status = 'truncated'))
             GROUP BY candidate.id, candidate.prompt_id
            HAVING count(judgement.score) >= :min_scores
          ) AS means
         GROUP BY means.prompt_id
      ) AS scored
     WHERE pair_decision.iteration_id = :iteration
       AND pair_decision.prompt_id = scored.prompt_id
       AND pair_decision.outcome <> 'unscored'
"""
SCORES_OF_PAIRS = """
    UPDATE pair_decision
       SET best_score = preference_pair.chosen_score, worst_score = preference_pair.rejected_score
      FROM preference_pair
     WHERE preference_pair.iteration_id = pair_decision.iteration_id
       AND preference_pair.prompt_id = pair_decision.prompt_id
"""


def upgrade() -> None:
    for name in BEFORE:
        op.execute(f"DROP VIEW {name}")
    _make_tallies()
    op.add_column("pair_decision", sa.Column("best_score", sa.Float(53), nullable=True, comment=BEST))
    op.add_column("pair_decision", sa.Column("worst_score", sa.Float(53), nullable=True, comment=WORST))
    for statement in FILL:
        op.execute(_said(statement))
    _fill_scores()
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns)
    rejected = sa.text("reject_reason IS NOT NULL")
    op.create_index(
        REJECTED, "prompt", ["reject_reason", "id"], sqlite_where=rejected, postgresql_where=rejected
    )
    for statement in SEARCH_SQLITE if _is_sqlite() else SEARCH_POSTGRESQL:
        op.execute(statement)
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {_said(query)}")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    if _is_sqlite():
        for name in TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
        op.execute("DROP TABLE prompt_search")
    else:
        op.execute("DROP INDEX ix_prompt_search")
    for name in (*INDEXES, REJECTED):
        op.execute(f"DROP INDEX {name}")
    for column in ("best_score", "worst_score"):
        op.execute(f"ALTER TABLE pair_decision DROP COLUMN {column}")
    op.drop_table("judgement_tally")
    op.drop_table("candidate_tally")
    for name, before in BEFORE.items():
        op.execute(f"CREATE VIEW {name} AS {_views_of(before)[name]}")


def _make_tallies() -> None:
    op.create_table(
        "candidate_tally",
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that sampled them."),
        sa.Column("status", sa.Text(), nullable=False, comment="As candidate.status."),
        sa.Column("candidates", Id, nullable=False, comment="How many there are."),
        sa.Column("tokens", Id, nullable=False, comment="Their tokens."),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iteration.id"], name=op.f("fk_candidate_tally_iteration_id")
        ),
        sa.PrimaryKeyConstraint("iteration_id", "status", name=op.f("pk_candidate_tally")),
        comment="The candidates of an iteration, counted as they are stored.",
    )
    op.create_table(
        "judgement_tally",
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that sampled the candidates."),
        sa.Column("judge_id", Id, nullable=False, comment="Who judges, and how."),
        sa.Column("status", sa.Text(), nullable=False, comment="As judgement.status."),
        sa.Column("tenth", sa.Integer(), nullable=False, comment=TENTH),
        sa.Column("judgements", Id, nullable=False, comment="How many there are."),
        sa.Column("score_sum", sa.Float(53), nullable=False, comment="Sum of their scores."),
        sa.Column("score_squares", sa.Float(53), nullable=False, comment="Sum of the squares of the scores."),
        sa.Column("tokens", Id, nullable=False, comment="Tokens of the replies."),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iteration.id"], name=op.f("fk_judgement_tally_iteration_id")
        ),
        sa.ForeignKeyConstraint(["judge_id"], ["judge.id"], name=op.f("fk_judgement_tally_judge_id")),
        sa.PrimaryKeyConstraint(
            "iteration_id", "judge_id", "status", "tenth", name=op.f("pk_judgement_tally")
        ),
        comment="The judgements of an iteration's candidates, counted as they are stored.",
    )


def _fill_scores() -> None:
    connection = op.get_bind()
    iteration = sa.table(
        "iteration", *(sa.column(name) for name in ("id", "data_iteration_id", "judge_id", "setting_hash"))
    )
    setting = sa.table("setting", sa.column("hash"), sa.column("body", sa.JSON()))
    query = sa.select(
        iteration.c.id, iteration.c.data_iteration_id, iteration.c.judge_id, setting.c.body
    ).join(setting, setting.c.hash == iteration.c.setting_hash)
    for row in connection.execute(query).all():
        if row.judge_id is not None:
            connection.execute(sa.text(SCORES), _drawing(row))
    connection.execute(sa.text(SCORES_OF_PAIRS))


def _drawing(row: Any) -> dict[str, int]:
    """What decides which candidates take part."""
    pair = row.body.get("pair", {})
    return {
        "iteration": row.id,
        "data": row.data_iteration_id,
        "judge": row.judge_id,
        "use_truncated": int(pair.get("use_truncated", True)),
        "min_scores": max(1, int(pair.get("min_scores", 1))),
    }


def _said(statement: str) -> str:
    """A statement as this database has it."""
    for name, said in (SQLITE if _is_sqlite() else POSTGRESQL).items():
        statement = statement.replace("{" + name + "}", said)
    return statement


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _views_of(before: str) -> dict[str, str]:
    """The views that an earlier revision defined."""
    script = context.script.get_revision(before)
    assert script is not None
    views: dict[str, str] = script.module.VIEWS
    return views


TENTH = "Their score times ten, rounded; 0 unless the status is read."
BEST = "Mean score of the best of the candidates that took part; NULL when unscored."
WORST = "Mean score of the worst of them; NULL when unscored."
