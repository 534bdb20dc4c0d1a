"""What a record in an HR system says about whether, and when, somebody has left; and how its API is asked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from worker.errors import WithdrawalsError
from worker.webhooks import safe_call
from worker.webhooks.safe_call import Reply


class UnclearRecordError(WithdrawalsError):
    """The HR system's record does not say clearly whether somebody has left: nobody is withdrawn, a person decides."""


class NoAnswerError(WithdrawalsError):
    """The HR system did not answer as it should. It may do so later."""

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds to wait, if the HR system said so."""


@dataclass(frozen=True, slots=True)
class Stays:
    """The person is employed, and no end is known. Leave of any kind is employment."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """The person leaves, or has left. `last_day`: of the employment, not of the work; None: they have left already."""

    last_day: date | None


Record = Stays | Leaves

Call = Callable[[str, str, Mapping[str, str], bytes], Reply]
"""Makes a request: method, URL, headers, body."""


@dataclass(frozen=True, slots=True)
class Api:
    """The API of an HR system, and the key that lets this service read it."""

    url: str
    """Without a slash at its end."""
    key: str
    call: Call

    def get(self, path: str, headers: Mapping[str, str]) -> Any:
        """The JSON value of an answer.

        Raises:
            NoAnswerError: it is not 200 with JSON.
        """
        return self._ask("GET", path, headers, b"")

    def post(self, path: str, headers: Mapping[str, str], body: bytes, media_type: str = "application/json") -> Any:
        """As `get`, with a body."""
        return self._ask("POST", path, {"Content-Type": media_type, **headers}, body)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        reply = self.call(method, self.url + path, headers, body)
        if reply.status != 200:
            raise NoAnswerError(f"{reply.error or f'status {reply.status}'}", reply.retry_after)
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError):
            raise NoAnswerError("the answer is not JSON") from None


def caller(*, allow_private: bool) -> Call:
    """Makes requests to public addresses, or also to private ones."""
    return lambda method, url, headers, body: safe_call.call(method, url, headers, body, allow_private=allow_private)


def find(value: Any, *names: str) -> Any:
    """What stands in an object under these names, one inside the other; None: nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def find_list(value: Any, name: str) -> list[Any]:
    """The list of an answer.

    Raises:
        UnclearRecordError: there is none.
    """
    found = find(value, name)
    if not isinstance(found, list):
        raise UnclearRecordError(f"the answer has no list {name!r}")
    return found


def parse_day(value: Any, name: str) -> date | None:
    """A day, from a date or the date of a time; None: there is none.

    Raises:
        UnclearRecordError: it is something else. The message does not quote it.
    """
    if value is None or value == "":
        return None
    try:
        return date.fromisoformat(value.partition("T")[0])
    except (ValueError, AttributeError):
        raise UnclearRecordError(f"{name}: is not a date such as 2026-03-31") from None


def is_id(value: Any) -> bool:
    """Whether a value may be an id: a text or a whole number."""
    return (isinstance(value, str) and bool(value)) or (isinstance(value, int) and not isinstance(value, bool))


def same_id(value: Any, external_id: str) -> bool:
    """Whether an id in an answer is that of the person who was asked for."""
    return is_id(value) and str(value) == external_id
