"""SQLAlchemy Core definitions of the tables; registry.migrations creates them.

Times are UTC text of fixed width; JSON columns hold values sent by callers. The same tables
serve SQLite and PostgreSQL.
"""

from sqlalchemy import JSON, BigInteger, Column, Double, Integer, MetaData, Table, Text

metadata = MetaData()

counter = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_sha256", Text, nullable=False),
    Column("status", Integer),
    Column("body", Text),
    Column("created_at", Text, nullable=False),
)

artifact = Table(
    "artifact",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Text, nullable=False),
)

dataset = Table(
    "dataset",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", Text, nullable=False),
)

dataset_version = Table(
    "dataset_version",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("format", Text, nullable=False),
    Column("reading", JSON, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("rejects", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("created_by", Text, nullable=False),
)

feature_set = Table(
    "feature_set",
    metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("dataset", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("target", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("artifacts", JSON, nullable=False),
    Column("statistics", JSON, nullable=False),
    Column("created_at", Text, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("experiment", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("ended_at", Text),
)

param = Table(
    "param",
    metadata,
    Column("run", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", JSON),
)

metric = Table(
    "metric",
    metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("run", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("value", Double, nullable=False),
    Column("at", Text, nullable=False),
)

run_artifact = Table(
    "run_artifact",
    metadata,
    Column("run", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
)

model = Table(
    "model",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", Text, nullable=False),
)

model_version = Table(
    "model_version",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("run", Text),
    Column("artifact", Text, nullable=False),
    Column("signature", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("parity", JSON, nullable=False),
    Column("dataset", Text),
    Column("dataset_version", Integer),
    Column("feature_set", Text),
    Column("framework", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("created_by", Text, nullable=False),
)

alias = Table(
    "alias",
    metadata,
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("moved_at", Text, nullable=False),
    Column("move", BigInteger, nullable=False),
)

alias_move = Table(
    "alias_move",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("model", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("version", Integer),
    Column("previous", Integer),
    Column("reason", Text, nullable=False),
    Column("moved_at", Text, nullable=False),
    Column("moved_by", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("at", Text, nullable=False),
)

prediction = Table(
    "prediction",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("function", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("inputs", JSON),
    Column("output", JSON),
    Column("latency", Double),
    Column("request_id", Text),
)
