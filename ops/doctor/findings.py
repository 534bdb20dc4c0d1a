"""What `withdrawals doctor` says, one answer each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of the doctor. `level`: `ok`, `warn` or `wrong`; `what`: the part; `finding`: what to do."""

    level: str
    what: str
    finding: str
