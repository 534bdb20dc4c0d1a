"""A client for Python services: typed, patient, and safe to ask twice.

Needs httpx2 and tenacity beside pydantic; the models in `schemas` do without. A request that makes a job carries
a key, so it is sent again after a lost connection without fear; the same key asks for the same job.

    with Client("https://withdrawals.example", token) as client:
        job = client.submit(JobRequest(reason="not_required", enrolment_ids=[1, 2]), key="cleanup-1")
        for outcome in client.outcomes(job.id):
            ...
"""

import base64
import hashlib
import hmac
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar
from uuid import uuid4

import httpx2
import tenacity
from pydantic import BaseModel, ValidationError

from .answers import DeadLetter, Job, JobOutcome, Page, Problem, Receipt, ShownReceipt
from .dead_letters import LetterFilter
from .events import HrEvent
from .feed import FeedEvent, FeedEventType, FeedPage
from .jobs import FileRequest, JobRequest

M = TypeVar("M", bound=BaseModel)

PATIENCE = 60.0
"""Seconds during which a request is sent again, by default."""
_LATER = (429, 503)
_SHORTEST_PAUSE = 0.05
"""Seconds between two attempts at least, whatever the service says: `Retry-After: 0` must not become a tight loop."""


class ServiceError(Exception):
    """The service said no; `problem` says why and what to do."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.type}: {problem.detail}")
        self.problem = problem
        self.retry_after = retry_after
        """Seconds after which to ask again, if it said so."""


class UnauthorisedError(ServiceError):
    """401: the token, or the signature, is not right."""


class ForbiddenError(ServiceError):
    """403: the token's role is not enough."""


class NotFoundError(ServiceError):
    """404: there is no such record in the token's organisation."""


class ConflictError(ServiceError):
    """409: the record is in a state in which this cannot be done."""


class KeyReusedError(ConflictError):
    """409: the key, or the event's id, was used before for another request."""


class GoneError(ServiceError):
    """410: the place in the feed is no more; begin again, as the problem says."""


class InvalidError(ServiceError):
    """400, 413, 415, 422: the request cannot be accepted as it stands; nothing was written."""


class BusyError(ServiceError):
    """429, 503: still, after all patience; ask again later with the same key."""


class UnreachableError(Exception):
    """No answer, after all patience; whether it arrived is not known: ask again with the same key."""


_longest_jitter = tenacity.wait_exponential(multiplier=0.2, max=10)

_BY_STATUS: dict[int, type[ServiceError]] = {
    400: InvalidError, 401: UnauthorisedError, 403: ForbiddenError, 404: NotFoundError, 409: ConflictError,
    410: GoneError, 413: InvalidError, 415: InvalidError, 422: InvalidError, 429: BusyError, 503: BusyError,
}  # fmt: skip


class _Caller:
    """Sends, and sends again what may be sent again."""

    def __init__(self, base_url: str, patience: float, transport: httpx2.BaseTransport | None) -> None:
        self._patience = patience
        self._http = httpx2.Client(base_url=base_url, timeout=30, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def _call(self, method: str, path: str, *, again: bool, file: IO[bytes] | None = None, **sent: Any) -> Any:
        """The JSON of the answer. `again`: whether it may be sent once more when no answer came."""

        def once() -> Any:
            if file is not None:
                file.seek(0)
                sent["files"] = {"file": ("ids.csv", file, "text/csv")}
            return _answer(self._http.request(method, path, **sent))

        def passing(error: BaseException) -> bool:
            if isinstance(error, ServiceError):
                return error.problem.status in _LATER
            lost = httpx2.TransportError if again else httpx2.ConnectError  # the latter: it was never sent
            return isinstance(error, lost)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(passing),
            wait=self._pause,
            stop=self._is_patience_spent,
            reraise=True,
        )
        try:
            return retrying(once)
        except httpx2.TransportError as error:
            raise UnreachableError(f"{method} {path}: {type(error).__name__}") from error

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt: what the service asked for, plus jitter that keeps clients apart.

        The jitter grows with each attempt and ends where patience does, so that the last attempt uses all of it.
        """
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.retry_after if isinstance(error, ServiceError) else None
        least = max(_SHORTEST_PAUSE, asked_for or 0.0)
        jittered = least + random.uniform(0, _longest_jitter(state))  # noqa: S311 - spreads load, hides nothing
        return max(least, min(jittered, self._patience - (state.seconds_since_start or 0.0)))

    def _is_patience_spent(self, state: tenacity.RetryCallState) -> bool:
        return (state.seconds_since_start or 0.0) + state.upcoming_sleep > self._patience


class Client(_Caller):
    """The jobs API with a token; thread-safe. Raises `ServiceError` and `UnreachableError`."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        patience: float = PATIENCE,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`patience`: seconds during which a request is sent again; `transport` replaces the network (tests)."""
        super().__init__(base_url, patience, transport)
        self._http.headers["Authorization"] = f"Bearer {token}"

    def submit(self, request: JobRequest, *, key: str | None = None) -> Job:
        """Ask for a job; with the `key` of a job that exists, the same job.

        Give a key of your own when you may have to ask again after a restart; one is made otherwise.
        """
        body = request.model_dump(mode="json", exclude_unset=True)
        return Job.model_validate(self._call("POST", "/v1/jobs", again=True, json=body, headers=_keyed(key)))

    def submit_file(self, file: Path | IO[bytes], request: FileRequest, *, key: str | None = None) -> Job:
        """Ask for a job over a CSV file with a column `enrolment_id`, of up to a million rows; it is sent as a stream.

        A stream of your own must be seekable: it is read from its beginning each time.
        """
        if isinstance(file, Path):
            with file.open("rb") as opened:
                return self.submit_file(opened, request, key=key)
        fields = request.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        answer = self._call("POST", "/v1/jobs/file", again=True, file=file, data=fields, headers=_keyed(key))
        return Job.model_validate(answer)

    def job(self, job_id: int) -> Job:
        """One job, with its counts."""
        return Job.model_validate(self._call("GET", f"/v1/jobs/{job_id}", again=True))

    def jobs(self, *, state: str | None = None) -> Iterator[Job]:
        """Jobs, newest first; pages are fetched as they are needed."""
        return self._pages("/v1/jobs", Job, {"state": state})

    def outcomes(self, job_id: int, *, outcome: str | None = None) -> Iterator[JobOutcome]:
        """What happened to each enrolment of a job so far, by rising id."""
        return self._pages(f"/v1/jobs/{job_id}/outcomes", JobOutcome, {"outcome": outcome})

    def events(
        self,
        *,
        after: str | None = None,
        types: Sequence[FeedEventType] = (),
        limit: int = 1000,
        follow: bool = True,
        poll_seconds: float = 2.0,
    ) -> Iterator[FeedEvent]:
        """What was withdrawn, reinstated and kept, in order; waits for more unless `follow` is false.

        `after`: the `cursor` of the last event that you have stored, or of `feed_end`; without one the oldest event
        that is kept comes first. Store an event and its cursor together, and no event is lost or counted twice.
        While the service cannot be reached a follower waits for it.

        Raises:
            GoneError: the place is no more, because it is too old or the service was restored from a backup.
        """
        while True:
            page = self._read_feed(after, types, limit, follow=follow)
            if page is not None:
                yield from page.items
                after = page.next_cursor
            if page is None or not page.more:
                if not follow:
                    return
                time.sleep(poll_seconds * random.uniform(0.75, 1.25))  # noqa: S311 - keeps followers apart

    def feed_end(self) -> str:
        """The cursor after everything that has happened: take it before you read a list that events then change."""
        return FeedPage.model_validate(
            self._call("GET", "/v1/events", again=True, params={"after": "latest"})
        ).next_cursor

    def _read_feed(
        self, after: str | None, types: Sequence[FeedEventType], limit: int, *, follow: bool
    ) -> FeedPage | None:
        query = {"after": after, "type": list(types) or None, "limit": limit}
        query = {name: value for name, value in query.items() if value is not None}
        try:
            return FeedPage.model_validate(self._call("GET", "/v1/events", again=True, params=query))
        except (BusyError, UnreachableError):
            if not follow:
                raise
            return None

    def cancel(self, job_id: int, *, note: str | None = None) -> Job:
        """Cancel what of a job is not decided yet; once more changes nothing."""
        return Job.model_validate(self._call("POST", f"/v1/jobs/{job_id}/cancel", again=True, json={"note": note}))

    def dead_letters(self, wanted: LetterFilter | None = None) -> Iterator[DeadLetter]:
        """Dead letters that match, newest first."""
        query = wanted.model_dump(mode="json", exclude_none=True) if wanted else {}
        return self._pages("/v1/dead-letters", DeadLetter, query)

    def dead_letter(self, letter_id: int) -> DeadLetter:
        """One dead letter with its history and remedies."""
        return DeadLetter.model_validate(self._call("GET", f"/v1/dead-letters/{letter_id}", again=True))

    def redrive(self, letter_id: int, *, note: str | None = None) -> DeadLetter:
        """Try a dead letter again."""
        return self._act(letter_id, "redrive", {"note": note})

    def resolve(self, letter_id: int, *, remedy: str, note: str) -> DeadLetter:
        """Decide a dead letter by one of its remedies."""
        return self._act(letter_id, "resolve", {"remedy": remedy, "note": note})

    def discard(self, letter_id: int, *, note: str | None = None) -> DeadLetter:
        """Close a dead letter without an answer."""
        return self._act(letter_id, "discard", {"note": note})

    def _act(self, letter_id: int, verb: str, body: dict[str, str | None]) -> DeadLetter:
        # Without a key a lost answer is not asked for again: the second act would meet the first.
        return DeadLetter.model_validate(
            self._call("POST", f"/v1/dead-letters/{letter_id}/{verb}", again=False, json=body)
        )

    def receipt(self, receipt_id: str) -> ShownReceipt:
        """What became of an event that an HR system sent."""
        return ShownReceipt.model_validate(self._call("GET", f"/v1/receipts/{receipt_id}", again=True))

    def _pages(self, path: str, model: type[M], query: dict[str, Any]) -> Iterator[M]:
        query = {"limit": 1000, **{name: value for name, value in query.items() if value is not None}}
        while True:
            page = Page[model].model_validate(  # type: ignore[valid-type] # a generic model is made at run time
                self._call("GET", path, again=True, params=query)
            )
            yield from page.items
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor


class HrSource(_Caller):
    """An HR system's own side: signs events after Standard Webhooks 1.0.0 and sends them."""

    def __init__(
        self,
        base_url: str,
        source: str,
        secret: str,
        *,
        patience: float = PATIENCE,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`source` and `secret` (`whsec_…`) as `withdrawals sources create` gave them."""
        super().__init__(base_url, patience, transport)
        self._path = f"/hooks/hr/{source}"
        self._secret = base64.b64decode(secret.removeprefix("whsec_"))

    def send(self, event: HrEvent, *, event_id: str | None = None) -> Receipt:
        """Send an event; the same `event_id` and event again get the same receipt.

        Keep the id with the event when you may have to send it again after a restart; one is made otherwise.
        """
        body = event.model_dump_json(exclude_unset=True).encode()
        headers = self._sign(event_id or f"msg_{uuid4().hex}", body)
        return Receipt.model_validate(self._call("POST", self._path, again=True, content=body, headers=headers))

    def _sign(self, event_id: str, body: bytes) -> dict[str, str]:
        at = str(int(time.time()))
        signature = hmac.digest(self._secret, f"{event_id}.{at}.".encode() + body, hashlib.sha256)
        return {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }


def _keyed(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or uuid4().hex}


def _answer(answer: httpx2.Response) -> Any:
    if answer.is_success:
        return answer.json()
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:  # a proxy's own words
        title = answer.reason_phrase
        problem = Problem(type="about:blank", title=title, status=answer.status_code, detail=title)
    kind = _BY_STATUS.get(answer.status_code, ServiceError)
    if problem.type.endswith(":idempotency_key_reused"):
        kind = KeyReusedError
    after = answer.headers.get("retry-after", "")
    raise kind(problem, float(after) if after.isdecimal() else None)
