"""Which network addresses may be connected to: public ones, and those of private hosts that the recipe names.

A page of the web may name, redirect to, or resolve to a machine inside the reader's own network. So every host is
resolved once, all its addresses are judged, and the connection goes to one of the judged addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Literal

from fieldwise.errors import DocumentError

Lookup = Callable[[str, int], list[str]]
Kind = Literal["public", "private", "loopback", "link-local", "multicast", "unspecified", "reserved", "cloud metadata"]

# Of these only 169.254.169.254 is link-local; Azure's is a public address, Alibaba's a shared one.
_METADATA = {
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
}  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")


def system_lookup(host: str, port: int) -> list[str]:
    """Return the addresses of a host as the system resolves it; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_addresses(
    host: str, port: int, allow_private: Iterable[str], lookup: Lookup = system_lookup
) -> tuple[str, ...]:
    """Return the addresses of a host if all of them may be connected to.

    Raises DocumentError: `unreachable` for a host without address, `private_address` if one of them is not public.
    A host named in `allow_private` may be private or loopback, and nothing else.
    """
    try:
        addresses = lookup(host, port)
    except (OSError, UnicodeError) as error:
        raise DocumentError(
            "the host is not known",
            reason="unreachable",
            found=host,
            fix="Check the address and the connection, and run again.",
        ) from error
    is_own = host.lower().rstrip(".") in {name.lower().strip("[]").rstrip(".") for name in allow_private}
    for address in addresses:
        kind = kind_of(address)
        if kind == "public" or (is_own and kind in ("private", "loopback")):
            continue
        fix = (
            f"If the server is your own, name it: collect.web.allow_private: [{host}]"
            if kind in ("private", "loopback")
            else "Such addresses are never fetched from."
        )
        raise DocumentError(
            "the host leads to an address that is not public",
            reason="private_address",
            found=f"{host} at a {kind} address",
            fix=fix,
        )
    return tuple(addresses)


def kind_of(address: str) -> Kind:
    """Say what an IP address is; one that carries an IPv4 address inside is what that one is, if that is not public.

    >>> kind_of("::ffff:127.0.0.1"), kind_of("9.9.9.9")
    ('loopback', 'public')
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    for inside in _embedded(ip):
        if (kind := kind_of(str(inside))) != "public":
            return kind
    if ip in _METADATA:
        return "cloud metadata"
    checks: tuple[tuple[Kind, bool], ...] = (
        ("unspecified", ip.is_unspecified),
        ("reserved", getattr(ip, "ipv4_mapped", None) is not None),
        ("multicast", ip.is_multicast),
        ("link-local", ip.is_link_local),
        ("loopback", ip.is_loopback),
        ("private", ip.is_private or getattr(ip, "is_site_local", False) or ip in _LOCAL_NAT64),
        ("reserved", ip.is_reserved and ip not in _NAT64),
        ("private", not ip.is_global),
    )
    return next((kind for kind, holds in checks if holds), "public")


def _embedded(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses a router or the system would take an IPv6 address for."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64 or (ip in _IPV4_COMPATIBLE and int(ip) > 1):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return [inside for inside in found if inside is not None]
