"""The runtime's settings: of-watchdog's names where it has one, otherwise SLUICE_*."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sluice.launch import (
    BUNDLE_VARIABLE,
    GATEWAY_URL_VARIABLE,
    LISTEN_FD_VARIABLE,
    NAME_VARIABLE,
    NAMESPACE_VARIABLE,
    PROCESS_VARIABLE,
    REPLICA_VARIABLE,
    SECRETS_DIR,
    SECRETS_DIR_VARIABLE,
    STATUS_FD_VARIABLE,
)
from sluice.logs import parse_log_format
from sluice.settings import (
    Row,
    SettingError,
    load,
    parse_count,
    parse_duration,
    parse_flag,
    parse_path,
    parse_port,
    parse_size,
    parse_text,
    rows,
    setting,
)

# What a handler may see; every other SLUICE_* variable of the table is removed.
SHOWN_TO_HANDLERS: Final = frozenset({SECRETS_DIR_VARIABLE, GATEWAY_URL_VARIABLE, REPLICA_VARIABLE})
DEFAULT_THREADS: Final = 32
MOST_THREADS: Final = 256


def parse_descriptor(text: str) -> int | None:
    """An inherited file descriptor; None when there is none."""
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError("the number of an inherited file descriptor")
    return int(text)


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Every setting of the runtime; times in seconds, sizes in bytes."""

    listen_fd: int | None = setting(
        LISTEN_FD_VARIABLE,
        "",
        parse_descriptor,
        "Descriptor of an inherited listening socket; used before SLUICE_SOCKET and port.",
    )
    socket: str = setting(
        "SLUICE_SOCKET", "", parse_text, "Path of a Unix socket to listen on; used before port."
    )
    port: int = setting("port", "8080", parse_port, "TCP port to listen on, on all interfaces.")
    status_fd: int | None = setting(
        STATUS_FD_VARIABLE,
        "",
        parse_descriptor,
        "Descriptor of a pipe for one JSON object a line: ready, failed, replace.",
    )
    bundle: Path = setting(
        BUNDLE_VARIABLE, ".", parse_path, "Folder that holds the package function/."
    )
    process: str = setting(
        PROCESS_VARIABLE,
        "",
        parse_text,
        "Command run once per call instead of a Python handler, split on single spaces.",
    )
    replica: str = setting(REPLICA_VARIABLE, "", parse_text, "Id of this replica.")
    name: str = setting(NAME_VARIABLE, "", parse_text, "Name of the function.")
    namespace: str = setting(NAMESPACE_VARIABLE, "", parse_text, "Namespace of the function.")
    secrets_dir: Path = setting(
        SECRETS_DIR_VARIABLE,
        SECRETS_DIR,
        parse_path,
        "Folder of the function's secrets, one file each.",
    )
    gateway_url: str = setting(
        GATEWAY_URL_VARIABLE, "", parse_text, "URL of the gateway as functions reach it."
    )
    log_format: str = setting(
        "SLUICE_LOG_FORMAT",
        "text",
        parse_log_format,
        "Log lines as text (key=value) or json.",
    )
    exec_timeout: float = setting(
        "exec_timeout",
        "30s",
        parse_duration,
        "Longest run of one call; 0 is no limit. Off by default with SLUICE_FPROCESS.",
    )
    read_timeout: float = setting(
        "read_timeout", "30s", parse_duration, "Longest wait for the rest of a request body."
    )
    write_timeout: float = setting(
        "write_timeout",
        "30s",
        parse_duration,
        "Longest wait for calls in flight when draining; at least exec_timeout, "
        "and raised to it when only exec_timeout is set.",
    )
    healthcheck_interval: float = setting(
        "healthcheck_interval",
        "0s",
        parse_duration,
        "How long new calls are still taken after SIGTERM while health and ready answer 503.",
    )
    max_inflight: int = setting(
        "max_inflight", "0", parse_count, "Calls at once, above it 429; 0 is no limit."
    )
    threads: int = setting(
        "SLUICE_THREADS",
        "0",
        parse_count,
        "Threads for sync handlers; 0 takes max_inflight up to 256, or 32 when that is 0.",
    )
    body_limit: int = setting(
        "SLUICE_BODY_LIMIT",
        "100Mi",
        parse_size,
        "Largest request body that is held for handle(); above it 413. ASGI apps stream.",
    )
    output_limit: int = setting(
        "SLUICE_OUTPUT_LIMIT",
        "100Mi",
        parse_size,
        "Largest output of a SLUICE_FPROCESS command; above it the command is killed.",
    )
    raw_body: bool = setting(
        "RAW_BODY", "false", parse_flag, "handle(req) gets bytes instead of text."
    )
    content_type: str = setting(
        "content_type",
        "",
        parse_text,
        "Content type of a SLUICE_FPROCESS response; the request's when unset.",
    )
    combine_output: bool = setting(
        "combine_output",
        "true",
        parse_flag,
        "Whether stderr of a SLUICE_FPROCESS command joins its output or goes to the log.",
    )
    cgi_headers: bool = setting(
        "cgi_headers",
        "true",
        parse_flag,
        "Whether a SLUICE_FPROCESS command sees the request as Http_* variables.",
    )

    @property
    def pool_size(self) -> int:
        """How many threads may run sync handlers at once."""
        if self.threads:
            return min(self.threads, MOST_THREADS)
        return min(self.max_inflight, MOST_THREADS) or DEFAULT_THREADS


def load_settings(environ: Mapping[str, str]) -> RuntimeSettings:
    """The settings in `environ`, checked against each other. Raises SettingError."""
    settings = load(RuntimeSettings, environ)
    if settings.process and not environ.get("exec_timeout"):
        settings = replace(settings, exec_timeout=0.0)
    if settings.write_timeout == 0:
        raise SettingError(
            "write_timeout", environ["write_timeout"], "a duration above 0: it bounds the drain"
        )
    if settings.write_timeout >= settings.exec_timeout:
        return settings
    if environ.get("write_timeout"):
        raise SettingError(
            "exec_timeout",
            environ.get("exec_timeout", "30s"),
            f"at most write_timeout ({environ['write_timeout']})",
        )
    return replace(settings, write_timeout=settings.exec_timeout)


def handler_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` as a handler or command sees it, without the runtime's own variables.

    onnxruntime sends telemetry at import and session creation unless it is disabled.
    """
    own = {row.variable for row in setting_rows() if row.variable.startswith("SLUICE_")}
    shown = {
        variable: value
        for variable, value in environ.items()
        if variable not in own or variable in SHOWN_TO_HANDLERS
    }
    shown.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return shown


def setting_rows() -> list[Row]:
    """The settings as the documentation shows them."""
    return rows(RuntimeSettings)
