"""The settings of the triggers: unit, default and environment name of each."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from pipelines.settings import PipelineSettings
from sluice.logs import parse_log_format
from sluice.settings import (
    SettingError,
    load,
    own_host,
    parse_count,
    parse_duration,
    parse_path,
    parse_port,
    parse_positive_count,
    parse_positive_duration,
    parse_text,
    setting,
)

PREFIX: Final = "SLUICE_TRIGGERS_"
USER_FILE: Final = "basic-auth-user"
PASSWORD_FILE: Final = "basic-auth-password"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True)
class TriggersSettings:
    """What the triggers read from their environment, once."""

    data_dir: Path = setting(
        "SLUICE_DATA_DIR", ".sluice", parse_path, "Folder that holds all state."
    )
    gateway_host: str = setting(
        "SLUICE_HOST", "127.0.0.1", parse_text, "Address that the gateway listens on."
    )
    gateway_port: int = setting(
        "SLUICE_PORT", "8080", parse_port, "Port that the gateway listens on."
    )
    gateway: str = setting(
        "SLUICE_TRIGGERS_GATEWAY_URL",
        "",
        parse_text,
        "The gateway's URL; empty: made of SLUICE_HOST and SLUICE_PORT.",
    )
    secret_mount_path: str = setting(
        "SLUICE_SECRET_MOUNT_PATH",
        "",
        parse_text,
        "Folder of basic-auth-user and basic-auth-password; empty: secrets in the data folder.",
    )
    log_format: str = setting(
        "SLUICE_LOG_FORMAT",
        "text",
        parse_log_format,
        "Log lines as text (key=value) or json.",
    )
    name: str = setting(
        "SLUICE_TRIGGERS_NAME",
        "",
        parse_text,
        "Name of this process among those on one database; empty: host name and socket.",
    )
    database: str = setting(
        "SLUICE_TRIGGERS_DATABASE_URL",
        "",
        parse_text,
        "SQLAlchemy URL of the database; empty: triggers.sqlite in the data folder.",
    )
    socket: str = setting(
        "SLUICE_TRIGGERS_SOCKET",
        "",
        parse_text,
        "Unix socket to listen on; empty: run/triggers.sock in the data folder.",
    )
    rebuild_interval: float = setting(
        "SLUICE_TRIGGERS_REBUILD_INTERVAL",
        "3s",
        parse_positive_duration,
        "Time between two looks at which functions are deployed.",
    )
    upstream_timeout: float = setting(
        "SLUICE_TRIGGERS_UPSTREAM_TIMEOUT",
        "2m",
        parse_positive_duration,
        "Time a call may take unless the trigger says otherwise.",
    )
    shutdown_grace: float = setting(
        "SLUICE_TRIGGERS_SHUTDOWN_GRACE",
        "10s",
        parse_duration,
        "How long open requests and calls may take to end after SIGTERM.",
    )
    cron_history: int = setting(
        "SLUICE_TRIGGERS_CRON_HISTORY", "10000", parse_count, "Fire times kept, newest first."
    )
    cron_at_once: int = setting(
        "SLUICE_TRIGGERS_CRON_AT_ONCE",
        "64",
        parse_positive_count,
        "Calls by schedule at the same time.",
    )
    cron_backfill: int = setting(
        "SLUICE_TRIGGERS_CRON_BACKFILL",
        "100",
        parse_count,
        "Most missed fire times that the misfire policy `backfill` makes up for, newest.",
    )
    cron_misfire_after: float = setting(
        "SLUICE_TRIGGERS_CRON_MISFIRE_AFTER",
        "5s",
        parse_duration,
        "How late a fire time may begin before it counts as missed.",
    )
    pipelines: PipelineSettings = field(default_factory=PipelineSettings)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of `environ`. Raises SettingError."""
        own = {
            name: value
            for name, value in environ.items()
            if not name.startswith(f"{PREFIX}KAFKA_")  # the Kafka source's table
        }
        loaded = load(cls, own, PREFIX, [PipelineSettings])
        if not loaded.gateway_url.startswith("http://"):
            raise SettingError(f"{PREFIX}GATEWAY_URL", loaded.gateway_url, "an http:// URL")
        return replace(loaded, pipelines=PipelineSettings.load(environ))

    @property
    def gateway_url(self) -> str:
        """The gateway's URL as this process reaches it."""
        if self.gateway:
            return self.gateway
        return f"http://{own_host(self.gateway_host)}:{self.gateway_port}"

    @property
    def secrets_dir(self) -> Path:
        """Folder of the gateway's credentials."""
        return Path(self.secret_mount_path) if self.secret_mount_path else self.data_dir / "secrets"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database or f"sqlite:///{self.data_dir / 'triggers.sqlite'}"

    @property
    def lock_path(self) -> Path:
        """Held by the one process that listens on the socket."""
        return self.socket_path.with_name(f"{self.socket_path.name}.lock")

    @property
    def socket_path(self) -> Path:
        """Unix socket to listen on."""
        return Path(self.socket) if self.socket else self.data_dir / "run" / "triggers.sock"

    @property
    def process_name(self) -> str:
        """Who this is among the processes on one database, the same after a restart."""
        return self.name or f"{socket.gethostname()}:{self.socket_path}"

    def credentials(self) -> tuple[str, str]:
        """User and password of the gateway. Raises SettingError naming a file that is missing."""
        return self._secret(USER_FILE), self._secret(PASSWORD_FILE)

    def _secret(self, name: str) -> str:
        path = self.secrets_dir / name
        try:
            return path.read_text().strip()
        except OSError as error:
            why = f"a folder with the file {name} ({os.strerror(error.errno or 0)})"
            raise SettingError("SLUICE_SECRET_MOUNT_PATH", str(self.secrets_dir), why) from error
