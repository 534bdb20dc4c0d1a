"""What the values of settings mean that are more than a word or a number. What is wrong is said with an example."""

import ipaddress
import re
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

from schemas.catalogue import LetterCode

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def parse_targets(value: str) -> dict[str, timedelta]:
    """For each code of a dead letter: how long it may stay open. `72,poison=8`: 72 hours, and 8 for one code.

    Raises:
        ValueError: a part is not CODE=HOURS, or not a number of hours.
    """
    default, *exceptions = [part.strip() for part in value.split(",")]
    found: dict[str, timedelta] = dict.fromkeys(map(str, LetterCode), _parse_hours(default))
    for part in exceptions:
        code, given, hours = part.partition("=")
        if not given or code.strip() not in found:
            raise ValueError(f"{part[:40]!r} must be CODE=HOURS. Use one of the codes: {', '.join(found)}.")
        found[code.strip()] = _parse_hours(hours)
    return found


def _parse_hours(hours: str) -> timedelta:
    try:
        number = float(hours)
    except ValueError:
        number = 0
    if not 0 < number <= 87_600:  # ten years
        raise ValueError(f"{hours[:40]!r} is not a number of hours above 0, up to 87,600. Example: 72,poison=8")
    return timedelta(hours=number)


def parse_networks(value: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Addresses and networks, separated by commas.

    Raises:
        ValueError: a part is neither.
    """
    try:
        return [ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip()]
    except ValueError as error:
        raise ValueError(f"{error}. Example: 10.0.0.7,192.168.0.0/16") from None


def parse_public_url(value: str) -> str:
    """An origin as browsers write it: in lower case, without the port that the scheme implies (RFC 6454, 6.2).

    Raises:
        ValueError: it has more than scheme, host and port, or another scheme.
    """
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, parts, port = "", urlsplit(""), None
    host = f"[{host}]" if ":" in host else host
    whole = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    if parts.scheme not in _PORTS or _HOST.fullmatch(host) is None or value.lower().rstrip("/") != whole:
        raise ValueError("must be scheme, host and perhaps a port. Example: https://withdrawals.example")
    return whole.removesuffix(f":{_PORTS[parts.scheme]}")


def parse_mail_url(value: str) -> str:
    """The URL of a mail server as Apprise writes it, with the sender and without receivers.

    Raises:
        ValueError: it is something else; the message does not quote it, because it has a password.
    """
    try:
        parts = urlsplit(value)
        options = {name for name, _ in parse_qsl(parts.query)}
        fits = parts.scheme in ("mailto", "mailtos") and bool(parts.hostname) and parts.path in ("", "/")
    except ValueError:
        fits, options = False, set()
    if not fits or "from" not in options or options & {"to", "cc", "bcc"}:
        raise ValueError(
            "must name a mail server and the sender, and no receiver. "
            "Example: mailtos://user:password@smtp.example:587?from=withdrawals@withdrawals.example"
        )
    return value


def parse_words(value: str) -> tuple[str, ...]:
    """Words, separated by commas, in lower case."""
    return tuple(part.strip().lower() for part in value.split(",") if part.strip())
