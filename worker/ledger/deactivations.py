"""The jobs of deactivations, in sets: find those that answer a repetition, and insert new ones with their chunks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from schemas.catalogue import JobState, Source
from worker.records import LANE_HR, ArrivedEvent, KnownDeactivation
from worker.rules import IMPLIED_REASON, ROSTER

# Each person is looked up by index, as a value.
_FIND = text("""
SELECT g.person, j.id, j.state, j.released_at IS NOT NULL AS is_released, EXISTS (
    SELECT 1 FROM withdrawals.job_chunks c WHERE c.job_id = j.id AND c.state = 'done') AS is_applied
FROM unnest(CAST(:persons AS text[]), CAST(:epochs AS bigint[])) AS g(person, epoch)
CROSS JOIN LATERAL (SELECT * FROM (
        (SELECT own.* FROM withdrawals.jobs own
        WHERE own.organisation_id = :organisation_id AND own.learner_external_id = g.person AND own.source = 'hr'
            AND own.epoch = g.epoch
        ORDER BY own.id DESC LIMIT 1)
        UNION ALL
        -- a roster's job is about many people
        (SELECT own.* FROM withdrawals.roster_lines t JOIN withdrawals.rosters r ON r.id = t.roster_id
        JOIN withdrawals.jobs own ON own.id = r.job_id
        WHERE t.organisation_id = :organisation_id AND t.external_id = g.person AND t.epoch = g.epoch
        ORDER BY own.id DESC LIMIT 1)) known
    ORDER BY known.id DESC LIMIT 1) j
""")


def find(connection: Connection, organisation_id: int, epochs: Mapping[str, int]) -> dict[str, KnownDeactivation]:
    """The newest job of locked persons' current deactivations, by external id; those without one are left out.

    `epochs`: the persons'. The settings row is locked, so that nobody releases a job meanwhile.
    """
    values = {"organisation_id": organisation_id, "persons": list(epochs), "epochs": list(epochs.values())}
    return {
        row.person: KnownDeactivation(row.id, JobState(row.state), row.is_released, row.is_applied)
        for row in connection.execute(_FIND, values)
    }


# The last job that an event of the source made, or that was made anew for it by a roster.
_FIND_CANCELLED = text("""
SELECT g.person FROM unnest(CAST(:persons AS text[]), CAST(:sources AS text[])) AS g(person, source)
CROSS JOIN LATERAL (SELECT j.state FROM withdrawals.jobs j
    WHERE j.organisation_id = :organisation_id AND j.learner_external_id = g.person AND j.source = 'hr'
        AND j.door IN (g.source, 'hr:' || g.source, :roster)
    ORDER BY j.id DESC LIMIT 1) j
WHERE j.state = 'cancelled'
""")


def find_cancelled(connection: Connection, organisation_id: int, sources: Mapping[str, str]) -> set[str]:
    """Persons of whose deactivation by a source somebody has cancelled the job. `sources`: by external id."""
    values = {"organisation_id": organisation_id, "persons": list(sources), "sources": list(sources.values())}
    return set(connection.scalars(_FIND_CANCELLED, {**values, "roster": f"hr:{ROSTER}"}))


@dataclass(frozen=True, slots=True)
class NewDeactivation:
    """The person job of a deactivation, in the state that it begins in."""

    arrived: ArrivedEvent
    """The event that asks for it."""
    epoch: int
    """Of the person; another one later supersedes it."""
    effective_at: datetime | None
    """None: it is due."""
    state: JobState
    held_because: str | None = None
    brake: dict[str, Any] | None = None
    """The figures of the brake that holds it."""
    learners: int = 0
    """Whom the rules would withdraw now: the person, or nobody."""


# `learners` is what it counts in the brake's window, or will once it is released.
_INSERT = text(f"""
WITH made AS (
    INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key, request_hash,
        state, learner_external_id, epoch, accepted, effective_at, admitted_at, held_because, learners, brake,
        request_id, traceparent, received_at)
    SELECT :organisation_id, '{IMPLIED_REASON[Source.HR]}', '{Source.HR}', g.actor, g.door, g.key, g.request_hash,
        g.state, g.person, g.epoch, 1, coalesce(g.effective_at, now()), CASE WHEN g.state = 'queued' THEN now() END,
        g.held_because, CASE WHEN g.state <> 'scheduled' THEN g.learners END, CAST(g.brake AS jsonb), g.request_id,
        g.traceparent, g.received_at
    FROM unnest(CAST(:actors AS text[]), CAST(:doors AS text[]), CAST(:keys AS text[]), CAST(:hashes AS bytea[]),
        CAST(:states AS text[]), CAST(:persons AS text[]), CAST(:epochs AS bigint[]),
        CAST(:effective AS timestamptz[]), CAST(:causes AS text[]), CAST(:brakes AS text[]),
        CAST(:learners AS bigint[]), CAST(:requests AS text[]), CAST(:traces AS text[]),
        CAST(:received AS timestamptz[])) WITH ORDINALITY
        AS g(actor, door, key, request_hash, state, person, epoch, effective_at, held_because, brake, learners,
            request_id, traceparent, received_at, place)
    ORDER BY g.place
    ON CONFLICT (organisation_id, door, idempotency_key) DO NOTHING
    RETURNING id, organisation_id, learner_external_id, state
), filled AS (
    INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, learner_external_id, size, state)
    SELECT id, organisation_id, 0, {LANE_HR}, learner_external_id, 1,
        CASE state WHEN 'queued' THEN 'ready' ELSE 'waiting' END
    FROM made ORDER BY id
)
SELECT id, learner_external_id FROM made
""")


def insert(connection: Connection, organisation_id: int, new: Sequence[NewDeactivation]) -> dict[str, int]:
    """Insert jobs, at most one a person, each with its one chunk; their ids by external id.

    One is missing where its key was taken, by a job that has committed.
    """
    values = {
        "organisation_id": organisation_id,
        "actors": [one.arrived.actor for one in new],
        "doors": [one.arrived.door for one in new],
        "keys": [one.arrived.key for one in new],
        "hashes": [one.arrived.request_hash for one in new],
        "states": [str(one.state) for one in new],
        "persons": [one.arrived.external_id for one in new],
        "epochs": [one.epoch for one in new],
        "effective": [one.effective_at for one in new],
        "causes": [one.held_because for one in new],
        "brakes": [None if one.brake is None else json.dumps(one.brake) for one in new],
        "learners": [one.learners for one in new],
        "requests": [one.arrived.request_id for one in new],
        "traces": [one.arrived.traceparent for one in new],
        "received": [one.arrived.received_at for one in new],
    }
    return {row.learner_external_id: row.id for row in connection.execute(_INSERT, values)}
