"""A producer and an HR system that send requests all the time, and what must come of each one that was accepted.

Both behave as good callers do: they repeat a request with its key until somebody answers, at any of the addresses.
"""

import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from random import sample
from typing import Any

import httpx2
from standardwebhooks import Webhook

from ops.walk.postgres import PostgreSQL
from ops.walk.waiting import WalkError, require, until

_ACCEPTED = (200, 202)
_UNFINISHED = "SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL"


class Load:
    """Requests over one platform, from their own threads.

    Jobs withdraw enrolments from the highest id down, events deactivate learners from the lowest on; learner n has
    enrolment n.
    """

    def __init__(self, *, learners: int, pace: float = 0.5) -> None:
        """`pace`: seconds between two requests of one sender."""
        self.addresses: list[str] = []
        self.token = ""
        self.source = ""
        self.secret = ""
        self.jobs: dict[int, list[int]] = {}
        """What was accepted, by the job that was answered."""
        self.events: dict[int, int] = {}
        """Learners by the receipt that was answered."""
        self.others: set[int] = set()
        """Enrolments that somebody else asks to withdraw."""
        self.answers: Counter[str] = Counter()
        """Everything that was answered, by status; `none` where no address did."""
        self._learners, self._pace = learners, pace
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=send, daemon=True) for send in (self._produce, self._report)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after the request that is under way was answered.

        Raises:
            WalkError: a sender does not end, or was answered what it cannot understand.
        """
        self._stopping.set()
        for thread in self._threads:
            thread.join(120)
            require(not thread.is_alive(), f"a sender waits for an answer: {dict(self.answers)}")

    @property
    def accepted(self) -> int:
        return len(self.jobs) + len(self.events)

    def go_on(self, requests: int = 10) -> int:
        """Wait until so many more requests were accepted; how many are accepted now."""
        before = (len(self.jobs), len(self.events))
        each = requests // 2
        until(
            lambda: len(self.jobs) >= before[0] + each and len(self.events) >= before[1] + each,
            f"{requests} more requests are accepted",
        )
        return self.accepted

    def refused(self, since: Counter[str]) -> Counter[str]:
        """What was not accepted since `answers` was copied, by status."""
        return Counter({what: n for what, n in (self.answers - since).items() if what not in map(str, _ACCEPTED)})

    def settle(self, postgres: PostgreSQL, database: str) -> str:
        """Wait until all work is done, and account for each request that was accepted; a sentence.

        Raises:
            WalkError: something is missing, double or unasked for.
        """
        receipts, learners = list(self.events), sorted(self.events.values())
        until(lambda: postgres.one(_UNFINISHED, database=database) == 0, "every job has ended")
        pending = "SELECT count(*) FROM lms.learners WHERE active AND id = ANY(%s)"
        until(lambda: postgres.one(pending, [learners], database=database) == 0, "every learner who left is inactive")
        until(lambda: postgres.one(_UNFINISHED, database=database) == 0, "every job has ended")
        found = {row[0] for row in postgres.rows("SELECT id FROM lms.enrolments WHERE status = 'withdrawn'",
                                                 database=database)}  # fmt: skip
        of_people = {row[0] for row in postgres.rows(
            "SELECT id FROM lms.enrolments WHERE learner_id = ANY(%s)", [learners], database=database)}  # fmt: skip
        asked = of_people | self.others | {one for ids in self.jobs.values() for one in ids}
        require(not asked - found, f"asked for and not withdrawn: {sorted(asked - found)[:10]}")
        require(not found - asked, f"withdrawn and not asked for: {sorted(found - asked)[:10]}")
        of_receipts = "SELECT count(*) FROM withdrawals.receipts WHERE id = ANY(%s)"
        known = postgres.one(of_receipts, [receipts], database=database)
        require(known == len(receipts), f"{len(receipts)} events were accepted, {known} are on record")
        decided = postgres.one(
            """SELECT count(DISTINCT job_id) FROM withdrawals.outcomes
            WHERE job_id = ANY(%s) AND outcome IN ('withdrawn', 'already_withdrawn')""",
            [list(self.jobs)], database=database,
        )  # fmt: skip
        require(decided == len(self.jobs), f"{len(self.jobs)} jobs were accepted, {decided} have their outcome")
        twice = postgres.one(
            """SELECT count(*) FROM (SELECT FROM withdrawals.outcomes WHERE outcome = 'withdrawn'
            GROUP BY enrolment_id HAVING count(*) > 1) t""",
            database=database,
        )
        require(twice == 0, f"{twice} enrolments were withdrawn twice")
        return (
            f"{len(self.jobs):,} jobs and {len(receipts):,} events accepted, {len(found):,} enrolments withdrawn once"
        )

    def _produce(self) -> None:
        with httpx2.Client(timeout=30) as client:
            for number in range(self._learners, self._learners // 2, -1):
                if self._stopping.wait(self._pace):
                    return
                body = {"reason": "not_required", "enrolment_ids": [number]}
                answer = self._send(client, "/v1/jobs", json.dumps(body).encode(), partial(self._authorised, number))
                self.jobs[int(answer["id"])] = [number]

    def _authorised(self, number: int, _: bytes) -> dict[str, str]:
        """The headers of a job's request, with the token of this moment."""
        key = f"walk-{number}"
        return {"authorization": f"Bearer {self.token}", "idempotency-key": key, "content-type": "application/json"}

    def _report(self) -> None:
        with httpx2.Client(timeout=30) as client:
            for number in range(1, self._learners // 2):
                if self._stopping.wait(self._pace):
                    return
                at = datetime.now(UTC).isoformat()
                body = {"type": "user.deactivated", "timestamp": at, "data": {"external_id": external_id(number)}}
                raw, signed = json.dumps(body).encode(), partial(self._signed, number)
                answer = self._send(client, f"/hooks/hr/{self.source}", raw, signed)
                self.events[int(answer["receipt_id"])] = number

    def _signed(self, number: int, body: bytes) -> dict[str, str]:
        """The headers of an event, signed now with the secret of this moment."""
        return sign(self.secret, body, f"msg_{number}")

    def _send(self, client: httpx2.Client, path: str, body: bytes, headers: Any) -> Any:
        """Send until it is accepted, at one address after the other; what was answered."""
        attempt = 0
        while True:
            attempt += 1
            for address in sample(self.addresses, len(self.addresses)):
                try:
                    answer = client.post(address + path, content=body, headers=headers(body))
                except httpx2.TransportError:
                    continue
                self.answers[str(answer.status_code)] += 1
                if answer.status_code in _ACCEPTED:
                    return answer.json()
                break
            else:
                self.answers["none"] += 1
            time.sleep(min(0.2 * attempt, 2))


def external_id(number: int) -> str:
    """The external id of a learner of the walk."""
    return f"p-{number:06d}"


def sign(secret: str, body: bytes, key: str) -> dict[str, str]:
    """The headers of an HR event, by Standard Webhooks."""
    now = datetime.now(UTC)
    signature = Webhook(secret).sign(key, now, body.decode())
    stamp = str(int(now.timestamp()))
    signed = {"webhook-id": key, "webhook-timestamp": stamp, "webhook-signature": signature}
    return signed | {"content-type": "application/json"}


def populate(postgres: PostgreSQL, database: str, *, learners: int, login: str) -> None:
    """Fill the platform's tables: learner n has enrolment n in `DAILY`; some in the middle another in `CLOSING`."""
    more = closing(learners)
    postgres.run(
        "INSERT INTO lms.organisations (name) VALUES ('Acme')",
        "INSERT INTO lms.series (organisation_id, code, title) VALUES (1, 'DAILY', 'Daily'), (1, 'CLOSING', 'Closing')",
        f"""INSERT INTO lms.learners (id, organisation_id, external_id, email, display_name)
        SELECT n, 1, 'p-' || lpad(n::text, 6, '0'), 'person' || n || '@acme.example', 'Person ' || n
        FROM generate_series(1, {learners}) n""",
        f"""INSERT INTO lms.enrolments (id, organisation_id, learner_id, series_id, status)
        SELECT n, 1, n, 1, 'in_progress' FROM generate_series(1, {learners}) n""",
        f"""INSERT INTO lms.enrolments (id, organisation_id, learner_id, series_id, status)
        SELECT n, 1, n - {learners} / 2 - {len(more)}, 2, 'in_progress'
        FROM generate_series({more.start}, {more.stop - 1}) n""",
        "ANALYZE lms.learners",
        "ANALYZE lms.enrolments",
        database=database,
        login=login,
    )


def closing(learners: int) -> range:
    """The enrolments of `CLOSING`: of one learner in twenty."""
    return range(learners + 1, learners + 1 + learners // 20)


def fail_on_refusals(load: Load, since: Counter[str]) -> None:
    """No request since then was refused.

    Raises:
        WalkError: some were; the message counts them by status.
    """
    if refused := load.refused(since):
        raise WalkError(f"requests were refused: {dict(refused)}")
