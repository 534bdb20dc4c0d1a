"""What a rule of the books is, and how the rules of one scan become one statement."""

import re
from dataclasses import dataclass
from enum import StrEnum

from worker.ledger.fragments import CLOSED_WHOLE, LIVE, UNFINISHED, sql_list
from worker.rules import ACTIVE, CLEAN, ENDED, NEEDS_SUPPORT, WITHDRAWN

_LISTS = {
    "unfinished": sql_list(UNFINISHED),
    "closed_whole": sql_list(CLOSED_WHOLE),
    "needs_support": sql_list(NEEDS_SUPPORT),
    "live": sql_list(LIVE),
    "active": sql_list(ACTIVE),
    "ended": sql_list(ENDED),
    "clean": sql_list(CLEAN),
    "withdrawn": WITHDRAWN.value,
}
"""What `{name}` stands for in the statements."""


class Severity(StrEnum):
    """How bad a finding is."""

    BROKEN = "broken"
    """No act of the platform explains it: something was lost, done twice or changed."""
    WARNING = "warning"
    """The platform may have done it, or the relay has not got to it yet."""


class By(StrEnum):
    """What a scan is cut into slices by."""

    JOB = "job"
    LETTER = "letter"
    ENROLMENT = "enrolment"
    PERSON = "person"
    """By organisation: persons have no number."""
    RECEIPT = "receipt"
    AUDIT = "audit"
    WHOLE = "whole"
    """Not cut: it reads little."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One invariant. `ops/books.md` lists all of them; a test compares the two."""

    code: str
    """Its short, stable name."""
    meaning: str
    """What it means when a row is found."""
    advice: str
    """What to do then."""
    condition: str = "true"
    """SQL over a row of the scan: whether the row breaks the rule."""
    detail: str = "NULL"
    """SQL over a row of the scan: text to show behind the subject."""
    severity: Severity = Severity.BROKEN


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows of the ledger, and the rules that each of them must keep. One statement, so one snapshot."""

    by: By
    source: str
    """SQL after FROM. `{within x}` in it keeps column `x` to the slice."""
    subject: str
    """SQL: which row it is, for people."""
    rules: tuple[Rule, ...]
    where: str = "true"
    """SQL: which rows of the source."""

    def statement(self, within: str) -> str:
        """The statement that finds what breaks the rules: columns `code`, `subject`; at most `:most` of each rule.

        `within`: SQL in which `{column}` stands for a column, for example `{column} BETWEEN 1 AND 9`.
        """
        # Only a row that breaks some rule is held against each of them: a row costs one look.
        broken = "\n OR ".join(f"({rule.condition})" for rule in self.rules)
        rules = ",\n".join(f"('{rule.code}', {rule.condition}, {rule.detail})" for rule in self.rules)
        found = f"""
            SELECT rule.code, {self.subject} || coalesce(': ' || rule.detail, '') AS subject,
                row_number() OVER (PARTITION BY rule.code) AS nth
            FROM {self.source}
            CROSS JOIN LATERAL (VALUES {rules}) rule(code, is_broken, detail)
            WHERE ({self.where}) AND ({broken}) AND rule.is_broken"""
        return f"SELECT code, subject FROM ({fill(found, within)}) found WHERE nth <= :most ORDER BY code, nth"


# Whether rows of a table (`audit`, `receipts`) were pruned of the organisation of a row, written on the day of a time.
_PRUNED = r"""EXISTS (SELECT FROM withdrawals.prunes pruned WHERE pruned.kind = '\1'
    AND pruned.organisation_id = \2.organisation_id AND pruned.day = CAST(\3 AT TIME ZONE 'UTC' AS date))"""


def fill(statement: str, within: str) -> str:
    """Put the lists of codes and the slice into a statement."""
    for name, value in _LISTS.items():
        statement = statement.replace(f"{{{name}}}", value)
    statement = re.sub(r"\{pruned (\w+) (\w+) ([a-z_.]+)\}", _PRUNED, statement)
    return re.sub(r"\{within ([a-z_.]+)\}", lambda found: f"({within.replace('{column}', found[1])})", statement)


@dataclass(frozen=True, slots=True)
class Violation:
    """One row that breaks a rule."""

    rule: str
    """The rule's code."""
    subject: str
