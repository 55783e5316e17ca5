"""Which IP addresses the gateway may connect to for a caller. No I/O."""

import ipaddress
from dataclasses import dataclass
from typing import Final, Self

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Addresses that hold another one (RFC 6052, 3056): what counts is where they lead.
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
RULE: Final = "public, loopback and networks such as 10.1.0.0/16"


@dataclass(frozen=True, slots=True)
class AllowedNetworks:
    """Networks, and whether every public address is allowed too."""

    public: bool
    networks: tuple[Network, ...]

    @classmethod
    def parse(cls, rule: str) -> Self:
        """Networks and the words `public` and `loopback`, with commas between; "" allows nothing.

        Raises ValueError saying what the rule may hold.
        """
        parts = [part.strip() for part in rule.split(",")] if rule.strip() else []
        networks: list[Network] = []
        for part in parts:
            if part == "loopback":
                networks += LOOPBACK
            elif part != "public":
                networks.append(_network(part))
        return cls("public" in parts, tuple(networks))

    def allows(self, address: str) -> bool:
        """Whether an IP address may be connected to. Raises ValueError for a host name."""
        ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
        if any(ip.version == network.version and ip in network for network in self.networks):
            return True
        return self.public and ip.is_global and not ip.is_multicast


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(RULE) from error


def _innermost(ip: Ip) -> Ip:
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
