"""The settings of the registry, each with its unit, default and environment variable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice.logs import parse_log_format
from sluice.settings import (
    load,
    parse_count,
    parse_duration,
    parse_flag,
    parse_path,
    parse_positive_count,
    parse_positive_duration,
    parse_positive_size,
    parse_text,
    setting,
)

PREFIX: Final = "SLUICE_REGISTRY_"


def parse_share(text: str) -> float:
    """A share between 0 and 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ValueError("a share from 0 to 1, such as 0.05")
    return share


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The settings of the registry, read from its environment once at start."""

    data_dir: Path = setting(
        "SLUICE_DATA_DIR", ".sluice", parse_path, "Folder that holds all state."
    )
    database: str = setting(
        "SLUICE_REGISTRY_DATABASE_URL",
        "",
        parse_text,
        "SQLAlchemy URL of the database; empty: registry/registry.sqlite in the data folder.",
    )
    artifacts: str = setting(
        "SLUICE_REGISTRY_ARTIFACTS_DIR",
        "",
        parse_text,
        "Folder of artifacts by sha256; empty: registry/artifacts in the data folder.",
    )
    socket: str = setting(
        "SLUICE_REGISTRY_SOCKET",
        "",
        parse_text,
        "Unix socket to listen on; empty: run/registry.sock in the data folder.",
    )
    log_format: str = setting(
        "SLUICE_LOG_FORMAT",
        "text",
        parse_log_format,
        "Log lines as text (key=value) or json.",
    )
    dataset_bytes: int = setting(
        "SLUICE_REGISTRY_DATASET_BYTES",
        "1Gi",
        parse_positive_size,
        "Largest dataset upload in bytes.",
    )
    table_bytes: int = setting(
        "SLUICE_REGISTRY_TABLE_BYTES",
        "4Gi",
        parse_positive_size,
        "Largest uncompressed table in bytes that a Parquet upload may hold.",
    )
    artifact_bytes: int = setting(
        "SLUICE_REGISTRY_ARTIFACT_BYTES", "2Gi", parse_positive_size, "Largest artifact in bytes."
    )
    json_bytes: int = setting(
        "SLUICE_REGISTRY_JSON_BYTES",
        "4Mi",
        parse_positive_size,
        "Largest JSON request body in bytes.",
    )
    table_columns: int = setting(
        "SLUICE_REGISTRY_TABLE_COLUMNS", "2000", parse_positive_count, "Most columns of a dataset."
    )
    table_rows: int = setting(
        "SLUICE_REGISTRY_TABLE_ROWS", "50000000", parse_positive_count, "Most rows of a dataset."
    )
    reject_share: float = setting(
        "SLUICE_REGISTRY_REJECT_SHARE",
        "0.05",
        parse_share,
        "Share of rows that may be rejected before an upload is refused.",
    )
    categories: int = setting(
        "SLUICE_REGISTRY_CATEGORIES", "50", parse_count, "Categories kept a text column."
    )
    ingest_memory: int = setting(
        "SLUICE_REGISTRY_INGEST_MEMORY",
        "1Gi",
        parse_positive_size,
        "Memory in bytes to read one upload.",
    )
    ingest_threads: int = setting(
        "SLUICE_REGISTRY_INGEST_THREADS", "2", parse_positive_count, "Threads to read one upload."
    )
    ingest_timeout: float = setting(
        "SLUICE_REGISTRY_INGEST_TIMEOUT",
        "10m",
        parse_positive_duration,
        "Longest reading of one upload.",
    )
    ingest_at_once: int = setting(
        "SLUICE_REGISTRY_INGEST_AT_ONCE",
        "2",
        parse_positive_count,
        "Uploads read at the same time.",
    )
    ingest_waiting: int = setting(
        "SLUICE_REGISTRY_INGEST_WAITING",
        "8",
        parse_count,
        "Uploads that may wait for those being read before 503.",
    )
    idempotency_kept: float = setting(
        "SLUICE_REGISTRY_IDEMPOTENCY_KEPT",
        "168h",
        parse_duration,
        "How long the result of an Idempotency-Key is kept.",
    )
    events_kept: int = setting(
        "SLUICE_REGISTRY_EVENTS_KEPT", "100000", parse_count, "Events kept, newest first."
    )
    predictions_kept: int = setting(
        "SLUICE_REGISTRY_PREDICTIONS_KEPT",
        "1000000",
        parse_count,
        "Logged predictions kept, newest first.",
    )
    verify_reads: bool = setting(
        "SLUICE_REGISTRY_VERIFY_READS",
        "false",
        parse_flag,
        "Hash an artifact again before it is sent.",
    )
    shutdown_grace: float = setting(
        "SLUICE_REGISTRY_SHUTDOWN_GRACE",
        "10s",
        parse_duration,
        "How long open requests may take to end after SIGTERM.",
    )

    @property
    def folder(self) -> Path:
        """The registry's own folder."""
        return self.data_dir / "registry"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database or f"sqlite:///{self.folder / 'registry.sqlite'}"

    @property
    def artifacts_dir(self) -> Path:
        """Folder of artifacts by sha256."""
        return Path(self.artifacts).absolute() if self.artifacts else self.folder / "artifacts"

    @property
    def lock_path(self) -> Path:
        """Lock file that allows one registry process per data folder."""
        return self.folder / "registry.lock"

    @property
    def socket_path(self) -> Path:
        """Unix socket to listen on."""
        return Path(self.socket) if self.socket else self.data_dir / "run" / "registry.sock"


def read_settings(environ: Mapping[str, str]) -> RegistrySettings:
    """The settings of `environ`. Raises settings.SettingError."""
    return load(RegistrySettings, environ, PREFIX)
