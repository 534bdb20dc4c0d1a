"""The front door under a storm: HR events and single API requests beside a receiver that only stores what arrives.

Run by `make bench`, or alone: `python -m ops.bench.door [--quick]`.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count

from standardwebhooks import Webhook

from ops.bench import bare, peers
from ops.bench.load import Storm, fire, id_file, make_request
from ops.bench.results import Results
from ops.bench.site import PYTHON, BenchError, Processes, Site, Size, World, alternate, open_site, until
from schemas.jobs import FileRequest
from worker.access import tokens
from worker.jobs.files.submit import submit_file
from worker.jobs.submit import Requester
from worker.people import hr_sources
from worker.reports.books import check


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of everything."""

    requests: int = 10_000
    connections: int = 32
    """Requests that are under way at the same time."""
    bulk: int = 500_000
    """Enrolments of the bulk job that runs meanwhile."""
    rounds: int = 3


QUICK = Amount(requests=500, connections=16, bulk=20_000, rounds=1)
_numbers = count(1)


def run(site: Site, results: Results, amount: Amount) -> None:
    """Measure every row of the front door."""
    size = Size(leavers=amount.requests)
    kind = "asynchronous"
    if amount.rounds > 1:
        with results.attempt("door.events", "door.singles"):
            kind = _faster_receiver(site, results, size, amount)
    with results.attempt("door.events", "door.events.p50", "door.events.p99", "door.drain", "door.singles"):
        run_storms(site, results, amount, kind)
    with results.attempt("door.bulk.events", "door.bulk.p99", "door.bulk.drain"):
        busy = Size(leavers=amount.requests // 2, bulk=amount.bulk)
        for number in range(amount.rounds):
            _busy_round(site, results, busy, amount, kind, number)
        site.forget(busy)
    with results.attempt("door.backlog"):
        for number in range(amount.rounds):
            _backlog_round(site, results, size, amount, number)
    site.forget(size)


def _faster_receiver(site: Site, results: Results, size: Size, amount: Amount) -> str:
    found = {kind: _bare(site, size, amount, kind).rate for kind in bare.KINDS}
    for kind, rate in found.items():
        results.note(f"bare receiver, {kind}, requests a second", rate)
    results.say(f"bare receiver: {', '.join(f'{kind} {rate:,.0f}/s' for kind, rate in found.items())}")
    return max(found, key=lambda kind: found[kind])


def run_storms(site: Site, results: Results, amount: Amount, kind: str) -> None:
    """Storms of events and of single requests beside those of the bare receiver of this kind."""
    for number in range(amount.rounds):
        _round(site, results, Size(leavers=amount.requests), amount, kind, number)


def _round(site: Site, results: Results, size: Size, amount: Amount, kind: str, number: int) -> None:
    found: dict[str, Storm] = {}
    drains: list[float] = []

    def receiver() -> None:
        found["bare"] = _bare(site, size, amount, kind)

    def events() -> None:
        with site.fresh(size) as world:
            make = _source(world)
            with world.processes("web", "worker", "relay") as processes:
                found["events"] = storm = _storm(processes, make, amount, size.leavers)
                drains.append(_until_withdrawn(world, size.of_leavers) - storm.ended)
            _check_books(world)

    def singles() -> None:
        with site.fresh(size) as world:
            make = _token(world)
            with world.processes("web", "worker", "relay") as processes:
                found["singles"] = _storm(processes, make, amount, size.leavers)
                _until_withdrawn(world, size.leavers)
            _check_books(world)

    alternate(number, receiver, events, singles)
    peer = found["bare"]
    results.add("door.events", found["events"].rate, peer.rate)
    results.add("door.events.p50", found["events"].latency(0.5), peer.latency(0.5))
    results.add("door.events.p99", found["events"].latency(0.99), peer.latency(0.99))
    results.add("door.drain", drains[0])
    results.add("door.singles", found["singles"].rate, peer.rate)
    for storm in found.values():
        results.note("the client's share of a core in a storm", storm.client_share)


def _busy_round(site: Site, results: Results, size: Size, amount: Amount, kind: str, number: int) -> None:
    """Both receivers while worker and relay are busy with the same bulk job."""
    found: dict[str, Storm] = {}
    drains: list[float] = []

    def receiver() -> None:
        with site.fresh(size) as world:
            _make_table(world)
            with world.processes("worker", "relay", bare=_receiver(kind)) as processes:
                _start_bulk(world)
                found["bare"] = _storm(processes, _bare_request, amount, size.leavers)
                _note_bulk(world, results)

    def events() -> None:
        with site.fresh(size) as world:
            make = _source(world)
            with world.processes("web", "worker", "relay") as processes:
                _start_bulk(world)
                found["events"] = _storm(processes, make, amount, size.leavers)
                _note_bulk(world, results)
                drains.append(_until_withdrawn(world, size.of_leavers) - found["events"].ended)

    alternate(number, receiver, events)
    results.add("door.bulk.events", found["events"].rate, found["bare"].rate)
    results.add("door.bulk.drain", drains[0])
    results.add("door.bulk.p99", found["events"].latency(0.99), found["bare"].latency(0.99))


def _backlog_round(site: Site, results: Results, size: Size, amount: Amount, number: int) -> None:
    """Single requests that are all accepted before the workers go on; both sides' processes run already."""
    seconds: dict[str, float] = {}

    def ours() -> None:
        with site.fresh(size) as world:
            make = _token(world)
            with world.processes("web", "worker", "relay") as processes:
                with processes.stopped("worker"):
                    _storm(processes, make, amount, size.leavers)
                    began = time.monotonic()
                seconds["ours"] = _until_withdrawn(world, size.leavers) - began
            _check_books(world)

    def dramatiq() -> None:
        with peers.running(site, "dramatiq", size.leavers) as peer:
            with peer.processes.stopped("dramatiq"):
                peer.send(range(1, size.leavers + 1))
                began = time.monotonic()
            peers.until_done(peer, size.leavers)
            seconds["theirs"] = time.monotonic() - began

    alternate(number, ours, dramatiq)
    results.add("door.backlog", amount.requests / seconds["ours"], amount.requests / seconds["theirs"])


def _storm(processes: Processes, make: Callable[[int], bytes], amount: Amount, requests: int) -> Storm:
    storm = fire(processes.port, [make(number) for number in range(1, requests + 1)], connections=amount.connections)
    if set(storm.statuses) != {202}:
        raise BenchError(f"of {requests:,} requests not all were accepted; answers by status: {dict(storm.statuses)}")
    return storm


def _bare(site: Site, size: Size, amount: Amount, kind: str) -> Storm:
    with site.fresh(size) as world:
        _make_table(world)
        with world.processes(bare=_receiver(kind)) as processes:
            storm = _storm(processes, _bare_request, amount, size.leavers)
        if world.count(bare.COUNT) != size.leavers:
            raise BenchError("the bare receiver has not stored every event")
    return storm


def _make_table(world: World) -> None:
    with world.owner.begin() as connection:
        connection.exec_driver_sql(bare.TABLE)


def _receiver(kind: str) -> list[str]:
    return [*PYTHON, "ops.bench.bare", kind, "PORT"]


def _bare_request(number: int) -> bytes:
    return _event(bare.PATH, bare.SECRET, number)


def _event(path: str, secret: str, number: int) -> bytes:
    now, key = datetime.now(UTC), f"bench-{next(_numbers)}"
    value = {"type": "user.deactivated", "timestamp": now.isoformat(), "data": {"external_id": f"p{number}"}}
    body = json.dumps(value)
    # The library takes a time without a zone, and reads it as UTC.
    signature = Webhook(secret).sign(key, now.replace(tzinfo=None), body)
    signed = {
        "webhook-id": key,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return make_request(path, signed, body.encode())


def _source(world: World) -> Callable[[int], bytes]:
    """A source of HR events, and what makes the event of a learner's number."""
    made = hr_sources.create(
        world.database,
        world.settings,
        organisation_id=world.organisation_id,
        name="bench",
        kind="standard",
        actor="bench",
    )
    return partial(_event, "/hooks/hr/bench", made.secret)


def _token(world: World) -> Callable[[int], bytes]:
    """A token, and what makes the request that withdraws one enrolment."""
    made = tokens.create(
        world.database, organisation_id=world.organisation_id, name="bench", role="producer", actor="bench"
    )

    def request(enrolment_id: int) -> bytes:
        headers = {"Authorization": f"Bearer {made.secret}", "Idempotency-Key": f"bench-{next(_numbers)}"}
        body = json.dumps({"reason": "not_required", "enrolment_ids": [enrolment_id]})
        return make_request("/v1/jobs", headers, body.encode())

    return request


def _start_bulk(world: World) -> None:
    first = world.size.of_leavers + 1
    submit_file(
        world.database,
        Requester(world.organisation_id, "bench", "api", "bulk"),
        FileRequest(reason="not_required"),
        id_file(range(first, first + world.size.bulk)),
    )


def _note_bulk(world: World, results: Results) -> None:
    """Say whether the bulk job lasted as long as the storm, and how far it was."""
    rest = world.count(
        f"SELECT count(*) FROM lms.enrolments WHERE id > {world.size.of_leavers} AND status <> 'withdrawn'"
    )
    results.note("storms whose bulk job ended before them", float(rest == 0))
    results.say(f"the bulk job had {rest:,} of {world.size.bulk:,} left at the end of the storm")


def _until_withdrawn(world: World, enrolments: int) -> float:
    """When the enrolments up to this id were seen withdrawn, on the monotonic clock."""
    query = f"SELECT count(*) FROM lms.enrolments WHERE id <= {enrolments} AND status = 'withdrawn'"
    until(lambda: world.count(query) == enrolments, what=f"{enrolments:,} enrolments are withdrawn", every=0.02)
    return time.monotonic()


def _check_books(world: World) -> None:
    until(
        lambda: world.count("SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL") == 0,
        what="every job has finished",
    )
    books = check(world.database)
    if not books.clean:
        raise BenchError(f"the books do not balance: {books}")


def main() -> None:
    """Measure on servers of its own."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.door", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything, in under a minute")
    parser.add_argument("--requests", type=int, help="requests of each storm")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison")
    arguments = parser.parse_args()
    amount = QUICK if arguments.quick else Amount()
    amount = Amount(
        arguments.requests or amount.requests, amount.connections, amount.bulk, arguments.rounds or amount.rounds
    )
    results = Results()
    with open_site(settle=0.2 if arguments.quick else 1.5) as site:
        run(site, results, amount)
    for name, value in results.notes.items():
        results.say(f"{name}: {value:,.3g}")


if __name__ == "__main__":
    main()
