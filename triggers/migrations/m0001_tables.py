"""The first tables. Frozen: a later change of the schema is a migration of its own."""

from typing import Final

# IF NOT EXISTS: development noted its versions elsewhere at first.
STATEMENTS: Final = (
    """CREATE TABLE IF NOT EXISTS cron_schedule (
        id TEXT NOT NULL, since FLOAT NOT NULL, PRIMARY KEY (id))""",
    """CREATE TABLE IF NOT EXISTS cron_fire (
        schedule TEXT NOT NULL, fire_time BIGINT NOT NULL, target TEXT NOT NULL,
        state TEXT NOT NULL, claimed_by TEXT NOT NULL, claimed_until FLOAT NOT NULL,
        started_at FLOAT, seconds FLOAT, status INTEGER, error TEXT,
        PRIMARY KEY (schedule, fire_time))""",
    "CREATE INDEX IF NOT EXISTS cron_fire_by_time ON cron_fire (fire_time)",
    """CREATE TABLE IF NOT EXISTS pipeline_definitions (
        version TEXT NOT NULL, source TEXT NOT NULL, activated_at FLOAT NOT NULL,
        PRIMARY KEY (version))""",
    """CREATE TABLE IF NOT EXISTS pipeline_run (
        id TEXT NOT NULL, pipeline TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL,
        cause TEXT NOT NULL, key TEXT, request_sha256 TEXT NOT NULL, input TEXT NOT NULL,
        error TEXT, parent TEXT, cancel INTEGER NOT NULL, owner TEXT NOT NULL,
        leased_until FLOAT NOT NULL, created_at FLOAT NOT NULL, started_at FLOAT, ended_at FLOAT,
        PRIMARY KEY (id), CONSTRAINT pipeline_run_key UNIQUE (pipeline, key))""",
    "CREATE INDEX IF NOT EXISTS pipeline_run_by_state ON pipeline_run (state, leased_until)",
    """CREATE TABLE IF NOT EXISTS pipeline_step (
        run TEXT NOT NULL, step TEXT NOT NULL, item INTEGER NOT NULL, state TEXT NOT NULL,
        input TEXT, output TEXT, error TEXT, status INTEGER, attempts INTEGER NOT NULL,
        started_at FLOAT NOT NULL, seconds FLOAT NOT NULL, PRIMARY KEY (run, step, item))""",
)
