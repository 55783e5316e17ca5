"""The classic watchdog's words: a command's environment, how it ended, lines of its log."""

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
    serving = first_header(exchange, b"host")
    if serving:
        variables["Http_Host"] = serving.decode("latin-1")
    return variables


def first_header(exchange: Exchange, wanted: bytes) -> bytes:
    """The first value of a header, empty when it did not come; wanted: its lower-case name."""
    return next((value for name, value in exchange.headers if name == wanted), b"")


def exit_reason(code: int) -> str:
    """How the command ended, in Go's words."""
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def write_log(text: str) -> None:
    """A line in the form of Go's log package, which tools that read watchdog logs look for."""
    sys.stderr.write(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {text}\n")
