"""The first tables. Frozen: later schema changes are new migrations."""

from typing import Final

STATEMENTS: Final = (
    "CREATE TABLE counter (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO counter VALUES ('event', 0)",
    """CREATE TABLE idempotency (
        route TEXT NOT NULL, key TEXT NOT NULL, request_sha256 TEXT NOT NULL,
        status INTEGER, body TEXT, created_at TEXT NOT NULL, PRIMARY KEY (route, key))""",
    "CREATE INDEX idempotency_age ON idempotency (created_at)",
    """CREATE TABLE artifact (
        sha256 TEXT PRIMARY KEY, size BIGINT NOT NULL, created_at TEXT NOT NULL)""",
    "CREATE TABLE dataset (name TEXT PRIMARY KEY, created_at TEXT NOT NULL)",
    """CREATE TABLE dataset_version (
        name TEXT NOT NULL REFERENCES dataset, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
        rows BIGINT NOT NULL, bytes BIGINT NOT NULL, format TEXT NOT NULL, reading JSON NOT NULL,
        columns JSON NOT NULL, rejects JSON NOT NULL, notes JSON NOT NULL, files JSON NOT NULL,
        created_at TEXT NOT NULL, created_by TEXT NOT NULL, PRIMARY KEY (name, version))""",
    "CREATE INDEX dataset_version_content ON dataset_version (name, sha256)",
    """CREATE TABLE feature_set (
        seq {serial}, id TEXT NOT NULL UNIQUE, dataset TEXT NOT NULL, version INTEGER NOT NULL,
        target TEXT NOT NULL, task TEXT NOT NULL, spec JSON NOT NULL, artifacts JSON NOT NULL,
        statistics JSON NOT NULL, created_at TEXT NOT NULL,
        FOREIGN KEY (dataset, version) REFERENCES dataset_version)""",
    "CREATE INDEX feature_set_dataset ON feature_set (dataset, version, seq)",
    """CREATE TABLE run (
        seq {serial}, id TEXT NOT NULL UNIQUE, experiment TEXT NOT NULL, status TEXT NOT NULL,
        tags JSON NOT NULL, inputs JSON NOT NULL, error TEXT NOT NULL,
        created_at TEXT NOT NULL, ended_at TEXT)""",
    "CREATE INDEX run_experiment ON run (experiment, seq)",
    """CREATE TABLE param (
        run TEXT NOT NULL REFERENCES run (id), name TEXT NOT NULL, value JSON,
        PRIMARY KEY (run, name))""",
    """CREATE TABLE metric (
        seq {serial}, run TEXT NOT NULL REFERENCES run (id), name TEXT NOT NULL,
        step BIGINT NOT NULL, value DOUBLE PRECISION NOT NULL, at TEXT NOT NULL)""",
    "CREATE INDEX metric_series ON metric (run, name, step, seq)",
    """CREATE TABLE run_artifact (
        run TEXT NOT NULL REFERENCES run (id), name TEXT NOT NULL,
        sha256 TEXT NOT NULL REFERENCES artifact, PRIMARY KEY (run, name))""",
    "CREATE TABLE model (name TEXT PRIMARY KEY, created_at TEXT NOT NULL)",
    """CREATE TABLE model_version (
        name TEXT NOT NULL REFERENCES model, version INTEGER NOT NULL,
        run TEXT REFERENCES run (id), artifact TEXT NOT NULL REFERENCES artifact,
        signature JSON NOT NULL, metrics JSON NOT NULL, parity JSON NOT NULL,
        dataset TEXT, dataset_version INTEGER, feature_set TEXT REFERENCES feature_set (id),
        framework JSON NOT NULL, tags JSON NOT NULL,
        created_at TEXT NOT NULL, created_by TEXT NOT NULL, PRIMARY KEY (name, version),
        FOREIGN KEY (dataset, dataset_version) REFERENCES dataset_version)""",
    """CREATE TABLE alias (
        model TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL,
        moved_at TEXT NOT NULL, move BIGINT NOT NULL, PRIMARY KEY (model, alias),
        FOREIGN KEY (model, version) REFERENCES model_version)""",
    """CREATE TABLE alias_move (
        id {serial}, model TEXT NOT NULL REFERENCES model, alias TEXT NOT NULL,
        version INTEGER, previous INTEGER, reason TEXT NOT NULL,
        moved_at TEXT NOT NULL, moved_by TEXT NOT NULL)""",
    "CREATE INDEX alias_move_history ON alias_move (model, alias, id)",
    """CREATE TABLE event (
        id BIGINT PRIMARY KEY, kind TEXT NOT NULL, data JSON NOT NULL, at TEXT NOT NULL)""",
    """CREATE TABLE prediction (
        id {serial}, model TEXT NOT NULL, version INTEGER NOT NULL, function TEXT NOT NULL,
        at TEXT NOT NULL, inputs JSON, output JSON, latency DOUBLE PRECISION, request_id TEXT)""",
    "CREATE INDEX prediction_model ON prediction (model, version, id)",
)
