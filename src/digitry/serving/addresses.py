"""IP addresses: which client an address belongs to, and which addresses are trusted proxies."""

import ipaddress
from collections.abc import Iterable

from digitry.errors import UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def source_of(address: str) -> str:
    """Return the key under which one client is counted: its IPv4 address or its IPv6 /64 network.

    A client with one IPv6 address usually controls its whole /64 network.
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
    """Return the addresses and networks of reverse proxies, parsed.

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
                remedy="give an address such as 127.0.0.1 or a network such as 172.30.83.0/24",
            ) from error
    return tuple(found)


def is_among(address: str, networks: Iterable[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found in network for network in networks)
