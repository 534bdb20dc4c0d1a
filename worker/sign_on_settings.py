"""What the settings of sign-in by OpenID Connect say: the issuer, the scopes, and which groups have which role."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from schemas.catalogue import Role

_GRANT = re.compile(r"(?P<group>.+)=(?P<role>viewer|operator|approver|owner)@(?P<organisation>[^=].*)", re.DOTALL)
"""A group may have `=`, `,` and `@` in its name, as those of LDAP do: the last `=ROLE@` counts."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that may be reached without TLS, for development and tests."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A group has a role in an organisation."""

    group: str
    role: Role
    organisation: str
    """Its name."""


def parse_grants(value: str) -> list[Grant]:
    """The grants of a setting.

    Raises:
        ValueError: a part is not GROUP=ROLE@ORGANISATION.
    """
    grants = []
    for part in filter(None, map(str.strip, value.split(";"))):
        found = _GRANT.fullmatch(part)
        if found is None:
            raise ValueError(
                f"{part[:60]!r} must be GROUP=ROLE@ORGANISATION, with a role from viewer to owner. "
                "Example: hr-team=operator@Acme; it=owner@Acme"
            )
        grants.append(Grant(found["group"].strip(), Role(found["role"]), found["organisation"].strip()))
    return grants


def check_issuer(value: str) -> str:
    """The issuer, unchanged: it is compared letter by letter with what the provider says.

    Raises:
        ValueError: it is not an https address; http is for this machine alone.
    """
    if value and not is_safe(value):
        raise ValueError("must begin with https://, and have no query. Example: https://login.example/realms/acme")
    return value


def is_safe(url: str) -> bool:
    """Whether an address has TLS, or is on this machine; without user, query and fragment."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.query or parts.fragment or not url.isascii():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)


def check_scopes(value: str) -> str:
    """The scopes, separated by one space each.

    Raises:
        ValueError: `openid` is missing, without which there is no id token.
    """
    scopes = value.split()
    if "openid" not in scopes:
        raise ValueError("must contain openid. Example: openid profile email groups")
    return " ".join(scopes)
