"""Who may deliver: by client address, read through trusted proxies, and by a shared secret."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAPPED_PREFIX: Final = 96
# In brackets, with a port, or alone. Azure's load balancers add the port, AWS's can; RFC 7239
# quotes addresses in brackets.
HOP: Final = re.compile(
    r'"?(?:\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}|([0-9A-Fa-f:.]+))"?'
)


@dataclass(frozen=True, slots=True)
class Origins:
    """Networks allowed to deliver (empty: all), and networks of trusted proxies."""

    allowed: tuple[Network, ...] = ()
    proxies: tuple[Network, ...] = ()

    def admit(self, peer: str | None, forwarded_for: Sequence[str]) -> bool:
        """Whether a delivery is allowed. forwarded_for: X-Forwarded-For lines in their order."""
        if not self.allowed:
            return True
        address = self._sender(peer, forwarded_for)
        return address is not None and _among(address, self.allowed)

    def _sender(self, peer: str | None, forwarded_for: Sequence[str]) -> Address | None:
        """The last hop that is not a trusted proxy. Hops before it may be forged."""
        hops = [hop for line in forwarded_for for hop in line.split(",") if hop.strip()]
        address = _address(peer)
        while hops and address is not None and _among(address, self.proxies):
            address = _address(hops.pop())
        return address


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse a comma-separated list of addresses and networks. Raises ValueError."""
    return tuple(_unmapped(ip_network(part.strip())) for part in text.split(",") if part.strip())


def _unmapped(network: Network) -> Network:
    """An IPv4-mapped IPv6 network as IPv4, because addresses are compared as IPv4."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED_PREFIX:
        return network
    return IPv4Network((mapped, network.prefixlen - MAPPED_PREFIX))


def _address(text: str | None) -> Address | None:
    """A peer or a hop, with or without its port: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    found = HOP.fullmatch((text or "").strip())
    try:
        address = ip_address(next(filter(None, found.groups())) if found else "")
    except ValueError:
        return None
    # A dual-stack socket shows an IPv4 peer as ::ffff:192.0.2.1.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _among(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


class Authenticator:
    """The currently valid secrets, compared in constant time. Every call compares all of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._digests = [_digest(secret) for secret in secrets]

    def accepts(self, presented: str | None) -> bool:
        """Whether a presented secret is valid; takes the same time for every wrong one."""
        digest = _digest(presented or "")
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return presented is not None and any(matches)


def _digest(secret: str) -> bytes:
    # Digests have equal length, so the comparison does not leak the length of a secret.
    return hashlib.blake2b(secret.encode("utf-8", "surrogateescape")).digest()
