"""Which machines a caller may make us connect to: only those that everybody can reach.

Python's `is_global` alone is not enough: depending on its version it lets metadata services of
clouds, NAT64, 6to4, multicast and embedded IPv4 addresses through (reference/reliability.md 4.1).
"""

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "168.63.129.16/32",  # Azure's platform services
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service lives there
        "192.88.99.0/24",  # 6to4 relays
        "224.0.0.0/3",  # multicast and reserved
    )
)
_UNICAST_V6: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address inside
        "3fff::/20",  # documentation
    )
)


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet, whatever it may carry inside."""
    if not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    # Everything outside of this block is local, reserved, or an IPv4 address in disguise.
    return address in _UNICAST_V6 and not any(address in network for network in _REFUSED_V6)
