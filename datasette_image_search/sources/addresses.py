"""Which addresses are the public's, and which are of a network, a machine or a cloud alone."""

from __future__ import annotations

import ipaddress

# IPv4-mapped and -compatible addresses, and those of translating networks (NAT64).
_CLOTHED = tuple(map(ipaddress.ip_network, ("::ffff:0:0/96", "::/96", "64:ff9b::/96")))

# Of no public use, which Python's own list learnt late or not at all: translation within a
# network (RFC 8215, RFC 2765), documentation (RFC 9637), segment routing (RFC 9602), a dummy
# (RFC 9780), what only the machine's own cloud answers at (Oracle's, Azure's), 6to4 relays.
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            *("64:ff9b:1::/48", "::ffff:0:0:0/96", "3fff::/20", "5f00::/16", "100:0:0:1::/64"),
            *("192.0.0.0/24", "168.63.129.16/32", "192.88.99.0/24"),
        ),
    )
)


def is_public(address: str) -> bool:
    """May a URL of a stranger's table lead to this IP address?"""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        # An IPv4 address in IPv6 clothes leads where the IPv4 address does.
        if any(ip in network for network in _CLOTHED):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour:
            ip = ip.sixtofour
        elif ip.is_site_local:
            return False
    if any(ip in network for network in _PRIVATE):
        return False
    return ip.is_global and not ip.is_multicast
