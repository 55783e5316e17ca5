"""Which callback targets are allowed: URLs are checked at acceptance, addresses when connecting.

A name may resolve to another address at any time, so the address that is connected to decides.
"""

import base64
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.types.errors import ForbiddenError, InvalidRequestError
from gateway.types.networks import AllowedNetworks

PORTS: Final = {"http": 80, "https": 443}
LONGEST_URL: Final = 2048


@dataclass(frozen=True, slots=True)
class CallbackTarget:
    """The parts of a callback URL. path: with the query. authorization: of user and password."""

    secure: bool
    host: str
    port: int
    path: bytes
    authorization: bytes = b""

    @property
    def key(self) -> str:
        """Host and port: callbacks to one do not delay those to another."""
        return f"{self.host}:{self.port}"


class CallbackTargets:
    """The rule of SLUICE_CALLBACK_TARGETS: networks, and the words `public` and `loopback`."""

    def __init__(self, rule: str) -> None:
        """Raises ValueError saying what the rule may hold."""
        self._allowed = AllowedNetworks.parse(rule)

    def allows(self, address: str) -> bool:
        """Whether an IP address may be connected to. Raises ValueError for a host name."""
        return self._allowed.allows(address)

    def parse(self, url: str) -> CallbackTarget:
        """The URL's parts. Raises InvalidRequestError, also for an address that is refused."""
        target = parse_url(url)
        try:
            self.check(target.host)
        except ForbiddenError as error:
            raise InvalidRequestError(f"X-Callback-Url: {error}") from error
        except ValueError:
            """A name: its address is checked when connecting."""
        return target

    def check(self, address: str) -> None:
        """Raises ForbiddenError for an address that is not allowed, ValueError for a name."""
        if not self.allows(address):
            raise ForbiddenError(f"address {address} is not among the allowed targets")


def parse_url(url: str) -> CallbackTarget:
    """The parts of a callback URL. Raises InvalidRequestError; its text shows no password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(str(error)) from error
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise _refused(f"at most {LONGEST_URL} printable ASCII characters without spaces")
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise _refused("a URL such as http://host:port/path")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    secure = parts.scheme == "https"
    target_port = port or PORTS[parts.scheme]
    return CallbackTarget(secure, parts.hostname, target_port, path.encode(), _basic(parts))


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _basic(parts: SplitResult) -> bytes:
    if parts.username is None:
        return b""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b"Basic " + base64.b64encode(pair.encode())


def _refused(expected: str) -> InvalidRequestError:
    return InvalidRequestError(f"X-Callback-Url: expected {expected}")
