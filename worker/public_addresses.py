"""Which addresses belong to the public internet. Needs nothing but the standard library."""

import ipaddress

_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
"""All that IANA gives out for the public internet. Outside are old ways to write an IPv4 address (`::10.0.0.1`,
`::ffff:0:10.0.0.1`, NAT64), site-local addresses and whatever will be invented; Python counts some as global."""
_NOT_PUBLIC = [
    ipaddress.ip_network(net) for net in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")
]
"""Protocol assignments (a cloud has its metadata at 192.0.0.192), 6to4 and Teredo, which carry an IPv4 address inside,
and examples; Python counts some as global."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found not in _PUBLIC_IPV6:
            return False
    return found.is_global and not found.is_multicast and not any(found in net for net in _NOT_PUBLIC)
