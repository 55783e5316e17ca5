"""Request targets brought to one form before anything routes by them.

One form, because the path that a router matches must be the path that is served behind it: no
`/%66unction/x`, `//function/x` or `http://host/function/x` may slip past a rule on `/function/`.
- absolute-form is reduced to origin-form (its authority replaces the host header);
- escapes of unreserved characters are decoded, all others stay (`%2F` is never a slash);
- runs of slashes in the path become one;
- refused: `.` and `..` segments, broken escapes, an escaped NUL, a fragment, anything else.
The query is left as sent.
"""

import re
from typing import Final

# What `_normalise` would leave as it is; most targets are.
PLAIN: Final = re.compile(rb"(?:/[^/?#%.\x00-\x20\x7f-\xff][^/?#%\x00-\x20\x7f-\xff]*)+/?|/")
ESCAPE: Final = re.compile(rb"%(.{0,2})", re.DOTALL)
HEX_PAIR: Final = re.compile(rb"[0-9A-Fa-f]{2}")
SLASHES: Final = re.compile(rb"/{2,}")
ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)((?:[/?].*)?)", re.DOTALL | re.IGNORECASE)
UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

KNOWN_TARGETS: Final = 1024
LONGEST_KNOWN_TARGET: Final = 256

# What `split_target` found so far: the hot path looks here first. Emptied when it is full.
TARGETS: Final[dict[bytes, tuple[bytes, bytes, bytes]]] = {}


def split_target(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Target in normal form, its path, its query (without `?`).

    Raises ValueError naming what is wrong with a target that is refused.
    """
    parts = TARGETS.get(raw)
    if parts is None:
        parts = _split(raw)
        if len(raw) <= LONGEST_KNOWN_TARGET and raw != b"*":
            if len(TARGETS) >= KNOWN_TARGETS:
                TARGETS.clear()
            TARGETS[raw] = parts
    return parts


def reduce_absolute(raw: bytes) -> tuple[bytes, bytes]:
    """Origin-form and authority of an absolute-form target. Raises ValueError for others."""
    match = ABSOLUTE.fullmatch(raw)
    if match is None:
        raise ValueError("target: expected a path that begins with / or an http URL")
    rest = match[2]
    return (rest if rest.startswith(b"/") else b"/" + rest), match[1]


def _split(raw: bytes) -> tuple[bytes, bytes, bytes]:
    if raw == b"*":
        return raw, raw, b""
    if not raw.startswith(b"/"):
        raise ValueError("target: expected a path that begins with /")
    if b"#" in raw:
        raise ValueError("target: a fragment (#) is not sent to a server")
    path, mark, query = raw.partition(b"?")
    if PLAIN.fullmatch(path) is None:
        path = _normalise(path)
    return path + mark + query, path, query


def _normalise(path: bytes) -> bytes:
    path = SLASHES.sub(b"/", ESCAPE.sub(_unescape, path))
    for segment in path.split(b"/"):
        if segment in {b".", b".."}:
            raise ValueError("path: segments . and .. are refused")
    return path


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if HEX_PAIR.fullmatch(digits) is None:
        raise ValueError("path: % without two hexadecimal digits")
    value = int(digits, 16)
    if value == 0:
        raise ValueError("path: an escaped NUL is refused")
    return bytes((value,)) if value in UNRESERVED else match[0]
