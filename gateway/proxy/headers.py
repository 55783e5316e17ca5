"""Which headers are passed on, and the header lines of responses.

Heads are rebuilt from what was parsed, never spliced from raw bytes. Headers for one connection
only (RFC 9110 section 7.6.1), and those that `connection` names, are not passed on.
"""

from typing import Final

from sluice.http1.wire import HOP_BY_HOP
from sluice.version import installed_version

VERSION: Final = installed_version()
Headers = list[tuple[bytes, bytes]]

# Request headers that are not simply copied; the gateway itself handles `expect`.
REQUEST_NAMES: Final = HOP_BY_HOP | {
    b"expect",
    b"host",
    b"user-agent",
    b"x-call-id",
    b"x-forwarded-for",
    b"x-forwarded-host",
}
# The server frames the response and the gateway times it.
RESPONSE_NAMES: Final = HOP_BY_HOP | {b"content-length", b"content-type", b"x-duration-seconds"}
# Values of `connection` that name only headers that are left out anyway.
USUAL_CONNECTION: Final = frozenset({b"keep-alive", b"close", b"upgrade", b"te", b"Keep-Alive"})
USER_AGENT: Final = f"sluice-gateway/{VERSION}".encode()
SERVED_BY: Final = f"x-served-by: sluice/{VERSION}\r\n".encode()
# Of every response of the gateway's own: it distinguishes it from a function's with that status.
TEXT_TYPE: Final = b"content-type: text/plain; charset=utf-8\r\nx-openfaas-internal: proxy\r\n"


def response_lines(
    headers: Headers, call_lines: bytes, seconds: float, asked: Headers | None
) -> bytes:
    """The header lines of a response, without framing.

    call_lines: of `request_head`. seconds: from the request's head to the response's. asked: the
    request's headers, from which a response with a body but without a type takes its type; None
    for a response without a body.
    """
    lines, typed = _function_lines(headers)
    if asked is not None and not typed:
        lines.append(b"content-type: %b\r\n" % _type_of(asked))
    return b"%bx-duration-seconds: %.6f\r\n%b" % (call_lines, seconds, b"".join(lines))


def prepare_response(headers: Headers) -> bytes:
    """What `prepared_lines` needs of a response's headers; empty if they have no type."""
    lines, typed = _function_lines(headers)
    return b"".join(lines) if typed else b""


def prepared_lines(prepared: bytes, call_lines: bytes, seconds: float) -> bytes:
    """What `response_lines` returns, for a response whose head came before."""
    return b"%bx-duration-seconds: %.6f\r\n%b" % (call_lines, seconds, prepared)


def _function_lines(headers: Headers) -> tuple[list[bytes], bool]:
    """The lines that a response's headers alone determine, and whether a type is among them."""
    lines = [SERVED_BY]
    typed = False
    for header in headers:
        name = header[0]
        if name not in RESPONSE_NAMES:
            lines.append(b"%b: %b\r\n" % header)
        elif name == b"content-type":
            typed = True
            lines.append(b"%b: %b\r\n" % header)
        elif name == b"connection":
            kept = without_named(headers, header[1])
            if len(kept) < len(headers):
                return _function_lines(kept)
    return lines, typed


def refusal_lines(call_lines: bytes, seconds: float) -> bytes:
    """The header lines of a plain text with which the gateway itself responds."""
    return b"%b%b%bx-duration-seconds: %.6f\r\n" % (TEXT_TYPE, call_lines, SERVED_BY, seconds)


def without(headers: Headers, names: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers whose name is not among `names`."""
    return [pair for pair in headers if pair[0] not in names]


def _type_of(headers: Headers) -> bytes:
    return next((value for name, value in headers if name == b"content-type"), b"text/plain")


def without_named(headers: Headers, connection: bytes) -> Headers:
    """The headers without those `connection` lists, unless they frame or are left out anyway."""
    if connection in USUAL_CONNECTION:
        return headers
    names = {name.strip(b" \t").lower() for name in connection.split(b",")}
    return without(headers, frozenset(names - REQUEST_NAMES - {b"content-length"}))
