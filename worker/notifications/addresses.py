"""Addresses that notifications may go to: an e-mail address, or a URL of Apprise of a service that is allowed.

What a URL may ask Apprise for is a closed list. Apprise knows 200 services; some run programs or write to this
machine, and its options read files, follow redirects and switch off the check of certificates.
"""

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from worker.errors import InvalidInputError
from worker.texts import text

OPTIONS = ("from", "mode", "name", "pass", "region", "reply", "smtp", "to", "user")
"""What may stand after the `?` of a URL of users."""
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


def check_email(address: str) -> str:
    """An e-mail address (HTML's definition), without spaces around it.

    Raises:
        InvalidInputError: it is none.
    """
    found = address.strip()
    if _EMAIL.fullmatch(found) is None or len(found) > 254:
        raise InvalidInputError(text("to: not an e-mail address. Example: support@withdrawals.example"))
    return found


def check_url(url: str, *, schemas: tuple[str, ...]) -> str:
    """A URL of a service that is allowed. The message never quotes it.

    Raises:
        InvalidInputError: something else.
    """
    schema, given, _ = url.partition("://")
    if not given or schema.lower() not in schemas:
        raise InvalidInputError(
            text(
                "url: must begin with one of {schemes} (WITHDRAWALS_NOTIFICATION_SCHEMAS)",
                schemes=", ".join(f"{one}://" for one in schemas),
            )
        )
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidInputError(text("url: has characters that are not allowed in a URL"))
    return url


def mail_to(server: str, email: str) -> str:
    """The URL by which a mail server sends to somebody. `server`: as in `WITHDRAWALS_MAIL_URL`."""
    parts = urlsplit(server)
    options = [(name, value) for name, value in parse_qsl(parts.query) if name != "to"]
    if not any(
        name == "smtp" for name, _ in options
    ):  # else Apprise would take a known provider of the sender's domain
        options.append(("smtp", parts.hostname or ""))
    return parts._replace(query=urlencode([*options, ("to", email)], quote_via=quote), path="").geturl()
