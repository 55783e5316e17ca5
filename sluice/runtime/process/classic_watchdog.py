"""The classic watchdog's contract: a command's environment, its exit reason, its log lines."""

import signal
import sys
import time
from urllib.parse import unquote

from sluice.http1.exchange import Exchange


def request_environ(exchange: Exchange) -> dict[str, str]:
    """The request as the classic watchdog's Http_* variables."""
    variables: dict[str, str] = {}
    for name, value in exchange.headers:
        if name == b"host":
            continue
        canonical = "_".join(part.capitalize() for part in name.decode("latin-1").split("-"))
        variables.setdefault(f"Http_{canonical}", value.decode("latin-1"))
    length = -1 if exchange.chunked else exchange.content_length or 0
    variables["Http_Method"] = exchange.method
    variables["Http_ContentLength"] = variables["Http_Content_Length"] = str(length)
    if exchange.chunked:
        variables["Http_Transfer_Encoding"] = "chunked"
    if exchange.query:
        variables["Http_Query"] = exchange.query.decode("latin-1")
    variables["Http_Path"] = unquote(exchange.path.decode("latin-1"), errors="replace")
    host = first_header(exchange, b"host")
    if host:
        variables["Http_Host"] = host.decode("latin-1")
    return variables


def first_header(exchange: Exchange, wanted: bytes) -> bytes:
    """The first value of a header, empty when there is none; wanted: its lower-case name."""
    return next((value for name, value in exchange.headers if name == wanted), b"")


def exit_reason(code: int) -> str:
    """How the command ended, as Go words it."""
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def write_log(text: str) -> None:
    """Write a line as Go's log package does.

    Not by sluice.logs: tools that read the logs of watchdogs look for these lines.
    """
    sys.stderr.write(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {text}\n")
