"""Which callback targets are allowed: URLs are checked at acceptance, addresses when connecting.

A name may resolve to another address at any time, so the address that is connected to decides.
"""

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.types.errors import ForbiddenError, InvalidRequestError

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS: Final = {"http": 80, "https": 443}
LONGEST_URL: Final = 2048
# Addresses that embed another one (RFC 6052, 3056): the embedded one decides.
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


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
        self._public, self._networks = parse_rule(rule)

    def allows(self, address: str) -> bool:
        """Whether an IP address may be connected to."""
        ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
        if any(ip.version == network.version and ip in network for network in self._networks):
            return True
        return self._public and ip.is_global and not ip.is_multicast

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


def parse_rule(rule: str) -> tuple[bool, Sequence[Network]]:
    """Whether public addresses are allowed, and which networks besides. Raises ValueError."""
    networks: list[Network] = []
    public = False
    for part in filter(None, (each.strip() for each in rule.split(","))):
        if part == "public":
            public = True
        elif part == "loopback":
            networks += LOOPBACK
        else:
            networks.append(_network(part))
    return public, networks


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError("public, loopback and networks such as 10.1.0.0/16") from error


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


def _innermost(ip: Ip) -> Ip:
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
