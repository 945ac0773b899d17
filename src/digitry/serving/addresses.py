"""Whom an address stands for: what is counted for each client, and which proxies are believed."""

import ipaddress
from collections.abc import Iterable

from digitry.errors import UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def source_of(address: str) -> str:
    """Return what one client is counted under: its IPv4 address, or its IPv6 network of 64 bits.

    Whoever has an IPv6 address has 2**64 of them; they count as one.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def proxies_of(words: Iterable[str]) -> tuple[Network, ...]:
    """Return the addresses and networks of reverse proxies.

    Raises:
        UsageError: one of the words is neither an address nor a network.
    """
    found: list[Network] = []
    for word in words:
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise UsageError(
                f"{word} is not an address or a network",
                where="--proxy",
                remedy="give one such as 127.0.0.1 or 172.30.83.0/24",
            ) from error
    return tuple(found)


def is_among(address: str, networks: Iterable[Network]) -> bool:
    """Return whether an address lies in one of the networks."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found in network for network in networks)
