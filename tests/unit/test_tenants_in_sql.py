"""Every statement of the ledger that locks or writes rows names the organisation, or is listed here with the reason.

Reading the modules finds also what no test runs. That nothing waits for another organisation is shown by
`tests/races/test_race_tenants.py`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import ledger

LEDGER = Path(ledger.__file__).parent
LOCKS = re.compile(
    r"FOR (?:NO KEY )?(?:UPDATE|SHARE)|\bUPDATE \w+\.\w+|\bDELETE FROM|\bDO UPDATE\b"
    r"|with_for_update|\bupdate\(|\bdelete\("
)
BY_ORGANISATION = re.compile(
    r"organisation_id\)? ==? |organisation_id, [\w.]+\) IN|_IS_PERSON\b|_IS_LEARNER\b|_is_learner\(|\*selection\b"
)
"""How a statement names the organisation: it compares the column, or uses a condition that does."""

_LOCKED = "by the id of a row that this transaction has locked with its organisation, or has inserted"
_CLAIM = "by the ids of chunks and the token of the claim, which a worker makes over all organisations"
_DELIVERY = "by the id of a delivery and the token of the claim, which a worker makes over all organisations"
_BATCH = "by the id of an endpoint and the token of the claim, which a worker makes over all organisations"
_MESSAGE = "by the id of a message and the token of the claim, which a worker makes over all organisations"
_FILE = "by the id of a file and the token of the claim, with its organisation (`_still_ours`)"
_SWEEP = "the relay sweeps over all organisations"
REASONS = {
    "acts_alone._DELETE_OLD": _SWEEP,
    "brake_correction._LOCK_LARGE": _SWEEP,
    "brake_correction._LOCK_UNDONE": "the jobs that jobs which have just ended take back, of their organisation",
    "brake_series._CORRECT": "jobs that have just ended, or are corrected after their end, of any organisation",
    "brake_series._DELETE_OLD": _SWEEP,
    "brake_series._COUNT_AGAIN": _LOCKED,
    "claims._CLAIM": "a worker takes chunks of all organisations, and skips those that are locked",
    "claimed._LOCK": _CLAIM,
    "claimed._return": _CLAIM,
    "claims.WAKE": _SWEEP,
    "claimed._SPLIT": _CLAIM,
    "closing._close_whole": "the chunks of a job that is locked, of a person by organisation, or the relay's sweep",
    "dead_letters._OPEN": _CLAIM,
    "decide_persons._LOCK_CHUNKS": _CLAIM,
    "dead_letters._FAIL_ID": _CLAIM,
    "dead_letters.fail": _CLAIM,
    "dead_letters._SUPERSEDE_PERSON": _CLAIM,
    "dead_letters.note_failure": "the letter that a locked chunk redrives",
    "dead_letters._REDRIVE": _LOCKED,
    "dead_letters._SETTLE": "the letters that locked chunks redrive",
    "dead_letters.close": _LOCKED,
    "desk_acts.drop_evidence": _SWEEP,
    "erased_texts._AFTER": _LOCKED,
    "erased_texts.erase": "rows that it has found and locked by `_of_organisation`",
    "findable._DELETE_GONE": "the relay looks through the rows of all organisations",
    "jobs.let_override": _LOCKED,
    "jobs.set_counts": _LOCKED,
    "jobs._ADMIT": _LOCKED,
    "jobs._HOLD": _LOCKED,
    "jobs._CORRECTED": "by the ids of jobs that `_FINISH` has found",
    "jobs._FINISH": "by the ids of jobs whose chunks this worker has decided, or the relay's sweep",
    "leader._CONFIRM": "one relay leads for all organisations",
    "leader._RESIGN": "one relay leads for all organisations",
    "leader._TAKE": "one relay leads for all organisations",
    "lookups._CLAIM": "a worker takes look-ups of all organisations, one at a time, and skips those that are locked",
    "notices.delete_messages": _SWEEP,
    "notification_messages._CLAIM": "a worker takes messages of all organisations, and skips those that are locked",
    "notification_messages._FAILED": _MESSAGE,
    "notification_messages.record_delivered": _MESSAGE,
    "person_events._RECORD": "the row that it may meet has the same key, of which the organisation is a part",
    "processes._RECORD": "processes belong to no organisation",
    "processes._REMOVE": "processes belong to no organisation",
    "report_files._CLAIM": "the relay makes files of all organisations, and skips those that are locked",
    "report_files.delete_old": _SWEEP,
    "report_files.renew": _FILE,
    "report_files.lock_claimed": _FILE,
    "report_files.set_ready": _FILE,
    "report_files.set_failed": _FILE,
    "report_files.try_later": _FILE,
    "rosters._EXPIRE": _SWEEP,
    "roster_steps._FORGET_LINES": _LOCKED,
    "roster_findings._FORGET_MISSING": _LOCKED,
    "rosters._RECORD_FAILURE": "the relay applies the rosters of all organisations, and counts which of them fail",
    "rosters.clear_failure": _LOCKED,
    "rosters.lock_due": "the relay applies the rosters of all organisations, each by its id",
    "roster_steps._RECORD_ACTIVE": "the row that it may meet has the same key, of which the organisation is a part",
    "roster_steps._SETTLE": _LOCKED,
    "rosters.accept": _LOCKED,
    "roster_findings.compare": "the roster that this transaction has inserted or locked",
    "rosters.finish": _LOCKED,
    "sealed.replace": "a key of the whole service is rotated, by whoever holds it",
    "members.delete_expired": _SWEEP,
    "members.take_link": "the link that has just been presented",
    "sessions.delete_by_id": "by the id of a session that this transaction has found in its organisation",
    "sessions.delete_expired": _SWEEP,
    "sessions.delete_of_provider": "a provider ends a person's sessions wherever they are; its signature is the proof",
    "sessions.record_uses": "the sessions that have just been presented",
    "sessions.delete_session": "the session that has just been presented",
    "retention_days.delete_rows": "rows of all organisations that are old enough; each has its record, or none goes",
    "runs._end": "`stop` names the organisation; the others end a run that this transaction has locked",
    "runs._record_results": _SWEEP,
    "runs.end_canary": _LOCKED,
    "runs.freeze": _LOCKED,
    "runs.record_step": _LOCKED,
    "hr_sources._RECORD_REFUSALS": "the sources at whose address anybody has sent what was refused; only counts",
    "hr_sources.record_events": "the sources that have just proved who they are",
    "tokens.record_uses": "the tokens that have just been presented",
    "uploads._FORGET_FAULTS": _LOCKED,
    "uploads.delete_old": _SWEEP,
    "webhook_batches._CLAIM": "a worker takes batches of all organisations, and skips endpoints that are locked",
    "webhook_batches._FAILED": _BATCH,
    "webhook_batches.advance": _BATCH,
    "webhook_batches.pause": _BATCH,
    "webhook_deliveries._CLAIM": "a worker takes deliveries of all organisations, and skips those that are locked",
    "webhook_deliveries._DELIVERED": _DELIVERY,
    "webhook_deliveries._FAILED": _DELIVERY,
    "webhook_deliveries._DELETE_OLD": _SWEEP,
}
"""Why a statement that names no organisation cannot lock or change a row because another organisation asked for it."""

PLATFORM = re.compile(
    r"""UPDATE\ lms\.\w+\ (?P<written>\w+)\ SET
    |FROM\ lms\.\w+\ (?P<locked>\w+)\s+WHERE(?P<conditions>[^;]*?)FOR\ UPDATE
    |JOIN\ lms\.\w+\ (?P<joined>\w+)\s+ON[^;]*?FOR\ UPDATE\ OF\ (?P=joined)
    """,
    re.VERBOSE,
)
"""Where a row of the platform's tables is written or locked, with the name of the table in the statement."""


def statements() -> Iterator[tuple[str, str]]:
    """Module and name of each statement that locks or writes, with its source."""
    for path in sorted(LEDGER.glob("*.sql")):
        yield f"{path.stem}.sql", path.read_text(encoding="utf-8")
    for path in sorted(LEDGER.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()  # once: `ast.get_source_segment` does it for every node
        for node in ast.parse(source).body:
            segment = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if isinstance(node, ast.FunctionDef | ast.Assign | ast.AnnAssign) and LOCKS.search(_without_prose(segment)):
                yield f"{path.stem}.{_name(node)}", segment


def _name(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef):
        return node.name
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return ast.unparse(target) if target is not None else ""


def _without_prose(segment: str) -> str:
    return re.sub(r"#.*|--.*", "", segment)


FOUND = dict(statements())


def test_no_statement_locks_or_writes_rows_without_their_organisation() -> None:
    unnamed = {name for name, source in FOUND.items() if not BY_ORGANISATION.search(_without_prose(source))}
    missing, stale = sorted(unnamed - REASONS.keys()), sorted(REASONS.keys() - unnamed)
    assert not missing, f"compare the organisation, or say in REASONS why it cannot be another's: {missing}"
    assert not stale, f"take out of REASONS: {stale}"


@pytest.mark.parametrize("name", sorted(name for name, source in FOUND.items() if "lms." in _without_prose(source)))
def test_a_row_of_the_platform_is_locked_and_written_only_by_its_organisation(name: str) -> None:
    """There is no reason that would excuse it: these rows are what another organisation works with."""
    source = _without_prose(FOUND[name])
    for found in PLATFORM.finditer(source):
        alias = found["written"] or found["locked"] or found["joined"]
        assert re.search(rf"\b{alias}\.organisation_id = ", found["conditions"] or source), found[0]


def test_the_platforms_rows_are_found_where_they_are_locked_and_written() -> None:
    """The pattern sees each kind: else the test above would pass because it looks at nothing."""
    seen = {name for name, source in FOUND.items() if PLATFORM.search(_without_prose(source))}
    assert seen == {
        "decide.sql", "decide_at_once.sql", "decide_named._LOCK", "decide_plain.sql", "decide_plain_18.sql",
        "reinstate.sql", "decide._DEACTIVATE", "decide._LOCK_ENROLMENTS", "decide.LOCKED_LEARNER",
        "decide_persons._LOCK_ENROLMENTS",
        "person_events._LOCK_LEARNERS", "person_events._SET_LEARNERS", "reinstate._LOCK_LEARNERS",
        "erased_texts._LOCK_WITHDRAWN", "erased_texts._WITHDRAWN_BY",
    }  # fmt: skip
