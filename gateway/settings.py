"""The gateway's settings, each with its unit, default and environment variable."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

from gateway.types.networks import AllowedNetworks
from sluice.labels.functions import ASYNC_CONCURRENCY
from sluice.logs import parse_log_format
from sluice.settings import (
    SettingError,
    load,
    parse_count,
    parse_flag,
    parse_path,
    parse_port,
    parse_positive_count,
    parse_positive_duration,
    parse_positive_size,
    parse_text,
    setting,
)

PREFIX: Final = "SLUICE_"
# Settings of the other programs, which may share one environment with the gateway.
FOREIGN_PREFIXES: Final = ("SLUICE_REGISTRY_", "SLUICE_TRIGGERS_", "SLUICE_CLI_")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def _callback_targets(text: str) -> str:
    AllowedNetworks.parse(text)
    return text


def _log_level(text: str) -> str:
    if (value := text.strip().lower()) not in LOG_LEVELS:
        raise ValueError(f"one of {', '.join(LOG_LEVELS)}")
    return value


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The gateway's table of settings. Durations are seconds, sizes bytes, names say which."""

    # Where it listens, and where it keeps its state.
    data_dir: Path = setting(
        "SLUICE_DATA_DIR", ".sluice", parse_path, "Folder of all state, secrets and logs."
    )
    host: str = setting(
        "SLUICE_HOST", "127.0.0.1", parse_text, "Address that the API and the metrics listen on."
    )
    port: int = setting("SLUICE_PORT", "8080", parse_port, "TCP port of the API and of functions.")
    metrics_port: int = setting(
        "SLUICE_METRICS_PORT", "8082", parse_port, "TCP port of metrics and scrape targets."
    )
    provider: str = setting(
        "SLUICE_PROVIDER",
        "embedded",
        parse_text,
        "Where functions run: embedded, as processes of this machine.",
    )
    function_url: str = setting(
        "SLUICE_GATEWAY_URL",
        "",
        parse_text,
        "The gateway's URL as functions reach it; empty: made of address and port.",
    )
    registry_socket: str = setting(
        "SLUICE_REGISTRY_SOCKET",
        "",
        parse_text,
        "Unix socket of the registry; empty: run/registry.sock in the data folder.",
    )
    triggers_socket: str = setting(
        "SLUICE_TRIGGERS_SOCKET",
        "",
        parse_text,
        "Unix socket of the triggers; empty: run/triggers.sock in the data folder.",
    )
    log_level: str = setting(
        "SLUICE_LOG_LEVEL", "info", _log_level, "Least severe log line written."
    )
    log_format: str = setting(
        "SLUICE_LOG_FORMAT",
        "text",
        parse_log_format,
        "Log lines as text (key=value) or json; those of functions too.",
    )
    commit: str = setting(
        "SLUICE_COMMIT", "unknown", parse_text, "Commit this was built from, shown by /system/info."
    )

    # Who may do what.
    basic_auth: bool = setting(
        "SLUICE_BASIC_AUTH", "true", parse_flag, "Whether the API asks for the password."
    )
    secret_mount_path: str = setting(
        "SLUICE_SECRET_MOUNT_PATH",
        "",
        parse_text,
        "Folder of basic-auth-user, basic-auth-password, payload-secret and registry-token; "
        "empty: secrets in the data folder.",
    )

    # HTTP limits of both listeners.
    body_bytes: int = setting(
        "SLUICE_BODY_BYTES",
        "100Mi",
        parse_positive_size,
        "Largest body of a function call, in bytes.",
    )
    json_bytes: int = setting(
        "SLUICE_JSON_BYTES", "1Mi", parse_positive_size, "Largest body of an API request, in bytes."
    )
    head_bytes: int = setting(
        "SLUICE_HEAD_BYTES", "64Ki", parse_positive_size, "Largest request head, in bytes."
    )
    head_fields: int = setting(
        "SLUICE_HEAD_FIELDS", "100", parse_positive_count, "Most header fields of a request."
    )
    header_timeout: float = setting(
        "SLUICE_HEADER_TIMEOUT",
        "10s",
        parse_positive_duration,
        "Time for a request head to arrive.",
    )
    idle_timeout: float = setting(
        "SLUICE_IDLE_TIMEOUT", "75s", parse_positive_duration, "Time a kept connection may be idle."
    )

    # Calls.
    call_timeout: float = setting(
        "SLUICE_CALL_TIMEOUT",
        "60s",
        parse_positive_duration,
        "Time a function has for its response, unless its exec_timeout says otherwise.",
    )
    wait_timeout: float = setting(
        "SLUICE_WAIT_TIMEOUT",
        "30s",
        parse_positive_duration,
        "Time a call waits for a free or a starting replica.",
    )
    waiting_calls: int = setting(
        "SLUICE_WAITING_CALLS",
        "1000",
        parse_positive_count,
        "Calls of one function that may wait for a replica; more are refused with 429.",
    )
    connect_timeout: float = setting(
        "SLUICE_CONNECT_TIMEOUT", "5s", parse_positive_duration, "Time to connect to a replica."
    )
    kept_connections: int = setting(
        "SLUICE_KEPT_CONNECTIONS",
        "256",
        parse_count,
        "Idle connections that are kept to one replica.",
    )
    kept_timeout: float = setting(
        "SLUICE_KEPT_TIMEOUT",
        "30s",
        parse_positive_duration,
        "Time an idle connection to a replica is kept; shorter than the replica's own idle time.",
    )
    service_bytes: int = setting(
        "SLUICE_SERVICE_BYTES",
        "2Gi",
        parse_positive_size,
        "Largest body passed on to registry or triggers, in bytes.",
    )
    service_timeout: float = setting(
        "SLUICE_SERVICE_TIMEOUT",
        "30m",
        parse_positive_duration,
        "Time a request to registry or triggers may take, upload included.",
    )
    drain_timeout: float = setting(
        "SLUICE_DRAIN_TIMEOUT",
        "65s",
        parse_positive_duration,
        "Time that calls under way have to end when the gateway stops.",
    )

    # Asynchronous calls.
    queue_database_url: str = setting(
        "SLUICE_QUEUE_DATABASE_URL",
        "",
        parse_text,
        "PostgreSQL URL (postgresql://...) of the queue, the password in PGPASSWORD or PGPASSFILE; "
        "empty: queue/calls.sqlite in the data folder.",
    )
    queue_inflight: int = setting(
        "SLUICE_QUEUE_INFLIGHT", "256", parse_positive_count, "Queued calls that run at once."
    )
    queue_concurrency: int = setting(
        "SLUICE_QUEUE_CONCURRENCY",
        "10",
        parse_positive_count,
        "Queued calls of one function that run at once, unless its annotation "
        f"{ASYNC_CONCURRENCY.name} says otherwise.",
    )
    queue_calls: int = setting(
        "SLUICE_QUEUE_CALLS",
        "5000000",
        parse_positive_count,
        "Queued calls that may wait; more are refused with 429.",
    )
    queue_bytes: int = setting(
        "SLUICE_QUEUE_BYTES",
        "10Gi",
        parse_positive_size,
        "Size of the queued calls that may wait, in bytes; more are refused with 429.",
    )
    queue_max_age: float = setting(
        "SLUICE_QUEUE_MAX_AGE",
        "24h",
        parse_positive_duration,
        "Time after which a queued call that fails is not tried again.",
    )
    queue_result_keep: float = setting(
        "SLUICE_QUEUE_RESULT_KEEP",
        "24h",
        parse_positive_duration,
        "Time the result of a queued call is kept, and its Idempotency-Key with it.",
    )
    queue_dead_keep: float = setting(
        "SLUICE_QUEUE_DEAD_KEEP",
        "168h",
        parse_positive_duration,
        "Time a dead letter is kept to be replayed.",
    )
    queue_kept_bytes: int = setting(
        "SLUICE_QUEUE_KEPT_BYTES",
        "1Gi",
        parse_positive_size,
        "Size of finished calls above which the oldest are removed, in bytes.",
    )
    queue_lease: float = setting(
        "SLUICE_QUEUE_LEASE",
        "30s",
        parse_positive_duration,
        "Time after which another gateway on the same database takes over the calls of one that "
        "is silent.",
    )
    callback_targets: str = setting(
        "SLUICE_CALLBACK_TARGETS",
        "public,loopback",
        _callback_targets,
        "Addresses that X-Callback-Url may lead to: public, loopback and networks such as "
        "10.1.0.0/16, separated by commas.",
    )
    callback_timeout: float = setting(
        "SLUICE_CALLBACK_TIMEOUT", "30s", parse_positive_duration, "Time a callback may take."
    )
    callback_attempts: int = setting(
        "SLUICE_CALLBACK_ATTEMPTS", "12", parse_positive_count, "Attempts to deliver a callback."
    )

    # API.
    log_stream_timeout: float = setting(
        "SLUICE_LOG_STREAM_TIMEOUT",
        "1h",
        parse_positive_duration,
        "Time after which a followed log stream is ended.",
    )
    log_streams: int = setting(
        "SLUICE_LOG_STREAMS",
        "64",
        parse_positive_count,
        "Log streams served at once; more get 429.",
    )
    target_timeout: float = setting(
        "SLUICE_TARGET_TIMEOUT",
        "5s",
        parse_positive_duration,
        "Time to scrape a replica's metrics.",
    )

    # The embedded provider.
    start_timeout: float = setting(
        "SLUICE_START_TIMEOUT",
        "60s",
        parse_positive_duration,
        "Time a replica has from its start until it is ready.",
    )
    health_interval: float = setting(
        "SLUICE_HEALTH_INTERVAL",
        "3s",
        parse_positive_duration,
        "Time between two health checks of a replica.",
    )
    health_timeout: float = setting(
        "SLUICE_HEALTH_TIMEOUT",
        "2s",
        parse_positive_duration,
        "Time a replica has to respond to a health check before it is killed.",
    )
    zygote_keep: float = setting(
        "SLUICE_ZYGOTE_KEEP",
        "10m",
        parse_positive_duration,
        "Time a zygote without replicas is kept, ready to fork.",
    )
    replica_limit: int = setting(
        "SLUICE_REPLICA_LIMIT", "100", parse_positive_count, "Most replicas of one function."
    )
    process_limit: int = setting(
        "SLUICE_PROCESS_LIMIT",
        "1024",
        parse_positive_count,
        "About how many processes and threads a replica may have, where the kernel counts them by "
        "replica (Linux 6.14; for an ordinary user 5.14).",
    )
    tmp_bytes: int = setting(
        "SLUICE_TMP_BYTES",
        "1Gi",
        parse_positive_size,
        "What a replica's /tmp holds, in bytes; it is memory, and counts for its memory limit.",
    )
    cache_bytes: int = setting(
        "SLUICE_CACHE_BYTES",
        "2Gi",
        parse_positive_size,
        "What a function may keep in SLUICE_CACHE_DIR, in bytes; above it the files that were "
        "written or touched longest ago are removed.",
    )
    log_file_bytes: int = setting(
        "SLUICE_LOG_FILE_BYTES",
        "10Mi",
        parse_positive_size,
        "Size at which a replica's log file is rotated, in bytes.",
    )
    log_files: int = setting(
        "SLUICE_LOG_FILES", "3", parse_positive_count, "Log files kept of one replica."
    )
    log_bytes: int = setting(
        "SLUICE_LOG_BYTES",
        "1Gi",
        parse_positive_size,
        "Size of all function logs above which the oldest are removed, in bytes.",
    )
    log_keep: float = setting(
        "SLUICE_LOG_KEEP",
        "168h",
        parse_positive_duration,
        "Time a log is kept after its replica has ended.",
    )

    # Builds.
    build_bytes: int = setting(
        "SLUICE_BUILD_BYTES", "512Mi", parse_positive_size, "Largest build context (tar), in bytes."
    )
    builds: int = setting(
        "SLUICE_BUILDS", "2", parse_positive_count, "Builds run at once; more are refused with 429."
    )
    build_timeout: float = setting(
        "SLUICE_BUILD_TIMEOUT", "30m", parse_positive_duration, "Time a build may take."
    )
    build_upload_timeout: float = setting(
        "SLUICE_BUILD_UPLOAD_TIMEOUT",
        "5m",
        parse_positive_duration,
        "Time a build context has to arrive; only then is its signature known.",
    )
    build_members: int = setting(
        "SLUICE_BUILD_MEMBERS",
        "10000",
        parse_positive_count,
        "Most files and folders of a context.",
    )
    build_sdists: bool = setting(
        "SLUICE_BUILD_SDISTS",
        "true",
        parse_flag,
        "Whether a function may ask to build libraries from source, which runs their code "
        "as the gateway's user.",
    )
    build_urls: bool = setting(
        "SLUICE_BUILD_URLS",
        "false",
        parse_flag,
        "Whether requirements may name https:// URLs instead of versions.",
    )
    build_cache_bytes: int = setting(
        "SLUICE_BUILD_CACHE_BYTES",
        "10Gi",
        parse_positive_size,
        "Size of the cache of downloaded libraries above which the end of a build empties it, "
        "in bytes.",
    )

    def __post_init__(self) -> None:
        if self.port and self.port == self.metrics_port:
            raise SettingError(
                "SLUICE_METRICS_PORT", str(self.metrics_port), "another port than SLUICE_PORT"
            )
        if self.json_bytes > self.body_bytes:
            raise SettingError(
                "SLUICE_JSON_BYTES", str(self.json_bytes), "no more than SLUICE_BODY_BYTES"
            )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of `environ`; raises SettingError, also for an unknown SLUICE_ name."""
        known = {knob.metadata["variable"] for knob in fields(cls)}
        own = {
            name: value
            for name, value in environ.items()
            if name in known or not name.startswith(FOREIGN_PREFIXES)
        }
        return load(cls, own, PREFIX)

    @property
    def secrets_dir(self) -> Path:
        """Folder of the gateway's own credentials."""
        return Path(self.secret_mount_path) if self.secret_mount_path else self.data_dir / "secrets"

    @property
    def registry_path(self) -> Path:
        """The registry's Unix socket."""
        if self.registry_socket:
            return Path(self.registry_socket)
        return self.data_dir / "run" / "registry.sock"

    @property
    def triggers_path(self) -> Path:
        """The triggers' Unix socket."""
        if self.triggers_socket:
            return Path(self.triggers_socket)
        return self.data_dir / "run" / "triggers.sock"
