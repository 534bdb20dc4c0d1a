"""The rights of the service's role: what it needs, what is missing, and the SQL that a database's owner runs.

`migrations/grants.sql` says what the role may do. The platform's schema often belongs to another login than the
service's, so each right on it is looked up before anybody tries to grant it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from worker.session_settings import LOGIN, Found, Needed
from worker.session_settings import statements as login_statements

_FILE = Path(__file__).parent / "migrations" / "grants.sql"
_GRANT = re.compile(
    r"GRANT (?P<privilege>\w+)(?: \((?P<columns>[^)]+)\))? ON (?P<schema>SCHEMA )?(?P<names>.+) TO :role"
)
_PLATFORM = re.compile(r"\blms\b")


@dataclass(frozen=True, slots=True)
class Right:
    """One right on the platform's schema: of the schema itself, of a table, or of one of its columns."""

    privilege: str
    name: str
    column: str | None = None

    def __str__(self) -> str:
        return f"{self.privilege} on {self.name}" + (f".{self.column}" if self.column else "")


def statements(role: str, *, platform: bool) -> list[str]:
    """The statements of `grants.sql`: those about schema `lms`, or about schema `withdrawals`."""
    lines = [line for line in _FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("--")]
    found = [" ".join(part.split()) for part in "\n".join(lines).split(";")]
    return [one.replace(":role", role) + ";" for one in found if one and bool(_PLATFORM.search(one)) is platform]


def needed() -> list[Right]:
    """Every right on schema `lms` that the role needs."""
    rights = []
    for statement in statements(":role", platform=True):
        if (found := _GRANT.match(statement)) is None or "ALL SEQUENCES" in statement:
            continue
        columns = [name.strip() for name in (found["columns"] or "").split(",") if name.strip()]
        for name in (part.strip() for part in found["names"].split(",")):
            rights += [Right(found["privilege"], name, column) for column in columns or [None]]
    return rights


# By the catalogue, not by `to_regclass`: that needs the right to use the schema, which may be what is missing.
_LACKS = text("""
SELECT CASE
    WHEN :name = 'lms' THEN NOT has_schema_privilege(:role, 'lms', :privilege)
    WHEN CAST(:column AS text) IS NULL THEN (SELECT NOT has_table_privilege(:role, c.oid, :privilege) FROM pg_class c
        WHERE c.relnamespace = to_regnamespace('lms') AND 'lms.' || c.relname = :name)
    ELSE (SELECT NOT has_column_privilege(:role, c.oid, a.attnum, :privilege) FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = :column AND NOT a.attisdropped
        WHERE c.relnamespace = to_regnamespace('lms') AND 'lms.' || c.relname = :name) END""")
_LACKS_SEQUENCES = text("""
SELECT n.nspname || '.' || s.relname FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND a.attidentity = ''
JOIN pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.classid = 'pg_class'::regclass
JOIN pg_class s ON s.oid = d.objid JOIN pg_namespace n ON n.oid = s.relnamespace
WHERE c.relnamespace = to_regnamespace('lms') AND c.relname = 'learners'
    AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(:role, s.oid, 'USAGE') END""")


def missing(connection: Connection, role: str) -> list[Right]:
    """The rights on schema `lms` that the role does not have. What does not exist at all is not one of them."""
    if connection.scalar(text("SELECT to_regnamespace('lms') IS NULL OR to_regrole(:role) IS NULL"), {"role": role}):
        return []
    found = [
        right
        for right in needed()
        if connection.scalar(
            _LACKS, {"role": role, "name": right.name, "privilege": right.privilege, "column": right.column}
        )
    ]
    sequences = connection.scalars(_LACKS_SEQUENCES, {"role": role})
    return found + [Right("USAGE", f"SEQUENCE {name}") for name in sequences]


def to_grant(rights: list[Right], role: str) -> list[str]:
    """The SQL that grants exactly these rights."""
    columns: dict[tuple[str, str], list[str]] = {}
    made = []
    for right in rights:
        if right.column:
            columns.setdefault((right.privilege, right.name), []).append(right.column)
        else:
            what = "SCHEMA lms" if right.name == "lms" else right.name
            made.append(f"GRANT {right.privilege} ON {what} TO {role};")
    for (privilege, name), names in columns.items():
        made.append(f"GRANT {privilege} ({', '.join(names)}) ON {name} TO {role};")
    return made


OWNER = "withdrawals_owner"
"""The login that runs migrations, where nobody names one."""


def script(role: Needed, *, database: str, owner: str = OWNER, login: str = LOGIN) -> list[str]:
    """Everything that a DBA runs so that migrations and service need neither a superuser nor CREATEROLE.

    `owner`: the login that runs migrations. Placeholders are in capital letters.
    """
    owned_by = _quoted(owner)
    nobody = Found(0, "", "", database, "", 0, 0, 0, is_privileged=True, role_exists=True)
    return [
        "-- 1. As a superuser, or a login with CREATEROLE: the role with the rights, and the service's own login.",
        f"CREATE ROLE {role.role};",
        *(line.replace(f'"{LOGIN}"', _quoted(login)) for line in login_statements(nobody, role)),
        # Not CREATE SCHEMA … AUTHORIZATION: only a member of that role, or a superuser, may give a schema to it.
        "-- 2. As the owner of the database: `withdrawals migrate --no-grants` then makes its login's own schema.",
        f"GRANT CREATE ON DATABASE {_quoted(database)} TO {owned_by};",
        "-- 3. As the owner of schema lms.",
        *statements(role.role, platform=True),
        f"GRANT USAGE ON SCHEMA lms TO {owned_by};",
        f"GRANT SELECT ON lms.learners TO {owned_by};",
        f"-- 4. As {owned_by}, after each `withdrawals migrate --no-grants`.",
        *statements(role.role, platform=False),
    ]


def _quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
