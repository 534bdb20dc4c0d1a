"""Errors of an attempt: which fault each one is, and what may be said of it."""

from typing import Any

import psycopg
import pytest
import sqlalchemy.exc

from worker.faults import Fault, classify, describe, driver_error, is_enrolled_meanwhile, is_passing, is_transient


def with_state(sqlstate: str) -> psycopg.Error:
    """The driver's error for a SQLSTATE."""
    return psycopg.errors.lookup(sqlstate)("something happened")


def wrapped(error: BaseException) -> sqlalchemy.exc.DBAPIError:
    """As SQLAlchemy raises it."""
    return sqlalchemy.exc.DBAPIError("SELECT 1", {}, error)


@pytest.mark.parametrize(
    ("sqlstate", "fault"),
    [
        ("40001", Fault.TRANSIENT),  # serialization failure
        ("40P01", Fault.TRANSIENT),  # deadlock
        ("57P01", Fault.TRANSIENT),  # admin shutdown
        ("57P02", Fault.TRANSIENT),  # crash shutdown
        ("57P03", Fault.TRANSIENT),  # cannot connect now
        ("53300", Fault.TRANSIENT),  # too many connections
        ("53100", Fault.TRANSIENT),  # disk full
        ("08006", Fault.TRANSIENT),  # connection failure
        ("57P05", Fault.TRANSIENT),  # idle session timeout
        ("25P03", Fault.TRANSIENT),  # idle in transaction for too long
        ("25P04", Fault.TRANSIENT),  # transaction timeout
        ("25006", Fault.TRANSIENT),  # a standby, or a database that was made read-only
        ("55P03", Fault.TIMEOUT),  # lock timeout
        ("57014", Fault.TIMEOUT),  # statement timeout
        ("22001", Fault.ROW),  # value too long
        ("23505", Fault.ROW),  # unique violation
        ("23514", Fault.ROW),  # check violation
        ("21000", Fault.ROW),  # cardinality violation
        ("P0001", Fault.ROW),  # a trigger's own exception
        ("42601", Fault.BUG),  # syntax error
        ("42P01", Fault.BUG),  # no such table
        ("42501", Fault.BUG),  # no such right
    ],
)
def test_a_sqlstate_says_which_fault_it_is(sqlstate: str, fault: Fault) -> None:
    error = with_state(sqlstate)
    assert classify(error) is fault
    assert classify(wrapped(error)) is fault
    assert is_transient(error) is (fault is Fault.TRANSIENT)
    assert is_passing(error) is (fault in (Fault.TRANSIENT, Fault.TIMEOUT))


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), Fault.TRANSIENT),
        (psycopg.InterfaceError("the connection is closed"), Fault.TRANSIENT),
        (psycopg.ProgrammingError("a bug of ours"), Fault.BUG),
        (sqlalchemy.exc.TimeoutError("no connection"), Fault.TRANSIENT),
        (ValueError("not the database's"), Fault.BUG),
        (KeyboardInterrupt(), Fault.BUG),
    ],
)
def test_an_error_without_a_sqlstate_is_known_by_its_class(error: BaseException, fault: Fault) -> None:
    assert classify(error) is fault


def test_the_drivers_error_is_found_inside_sqlalchemys() -> None:
    inner, other = with_state("40001"), ValueError()
    assert driver_error(wrapped(inner)) is inner
    assert driver_error(other) is other


def test_only_the_platforms_own_uniqueness_means_enrolled_meanwhile() -> None:
    assert not is_enrolled_meanwhile(with_state("23505")), "some table that is not named"
    assert not is_enrolled_meanwhile(ValueError())


@pytest.mark.parametrize(
    "secret", ["'anna'", '"Anna Berg"', "(email)=(anna@example.org)", "anna@example.org", "4711", "('x', 4711)"]
)
def test_the_description_of_an_error_holds_no_values(secret: str) -> None:
    """Quoted text, brackets, addresses and numbers are personal data until proven otherwise."""
    name, message, _ = describe(RuntimeError(f"could not read {secret} of it\nsecond line with anna"))
    assert name == "RuntimeError"
    assert message.startswith("could not read ")
    for value in ("anna", "Anna", "4711", "second line"):
        assert value not in message


def test_equal_faults_of_different_rows_share_a_fingerprint_and_others_do_not() -> None:
    def fingerprint(error: Any) -> str:
        return describe(error)[2]

    assert fingerprint(RuntimeError("row 17 of 'x'")) == fingerprint(RuntimeError("row 9 of 'y'"))
    assert fingerprint(RuntimeError("row 17")) != fingerprint(ValueError("row 17"))
    assert fingerprint(RuntimeError("row 17")) != fingerprint(RuntimeError("column 17"))
    assert len(fingerprint(RuntimeError())) == 12


def test_of_a_refused_value_only_the_sqlstate_and_schema_names_are_kept() -> None:
    _, message, _ = describe(psycopg.errors.UniqueViolation("Key (email)=(anna@example.org) already exists"))
    assert "23505" in message
    assert "anna" not in message
