"""The formats of names, digests and times used throughout the registry."""

import re
from datetime import UTC, datetime
from typing import Final

NAME_PATTERN: Final = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$"
ALIAS_PATTERN: Final = r"^[a-z][a-z0-9-]{0,63}$"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"
LATEST: Final = "latest"


def valid_sha256(text: str) -> bool:
    """Whether `text` is a sha256 in lower-case hex."""
    return re.fullmatch(SHA256_PATTERN[1:-1], text) is not None


def valid_alias(text: str) -> bool:
    """Whether `text` may name an alias; `latest` is computed and cannot be set."""
    return text != LATEST and re.fullmatch(ALIAS_PATTERN[1:-1], text) is not None


def timestamp(moment: datetime | None = None) -> str:
    """`moment` (default: now) as UTC text of fixed width, so that text order is time order."""
    moment = (moment or datetime.now(UTC)).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
