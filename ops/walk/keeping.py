"""Steps: a backup is restored on another server, and a person is erased."""

from psycopg import sql

from ops.walk.load import external_id
from ops.walk.postgres import PostgreSQL
from ops.walk.programs import run
from ops.walk.site import DATABASE, LOGIN, OWNER, Site
from ops.walk.waiting import require, until

_BACKUP = "lms_backup"
_COUNTED = ("jobs", "outcomes", "receipts", "audit")


def back_up_and_restore(site: Site) -> str:
    """A dump under load, by a login that may only read; another server restores it, and the books there are clean."""
    site.postgres.make_login(_BACKUP, "IN ROLE pg_read_all_data")
    dump, roles = site.folder / "backup/withdrawals.dump", site.folder / "backup/roles.sql"
    dump.parent.mkdir(exist_ok=True)
    url = site.postgres.url(_BACKUP, DATABASE)
    programs, environment = site.postgres.programs, site.bare()
    run([programs / "pg_dump", "--format=custom", "--create", f"--file={dump}", url], environment)
    run(
        [programs / "pg_dumpall", "--roles-only", "--no-role-passwords", f"--file={roles}", f"--dbname={url}"],
        environment,
    )

    other = PostgreSQL(site.folder / "restored")
    site.stack.callback(other.close)
    other.start()
    admin = other.url("dba", "postgres")
    run(
        [programs / "psql", "--no-psqlrc", "--quiet", f"--file={roles}", admin], environment
    )  # its own roles exist already
    run([programs / "pg_restore", "--exit-on-error", "--create", f"--dbname={admin}", dump], environment)
    other.passwords[LOGIN] = site.new_key()
    other.run(f"ALTER ROLE {LOGIN} PASSWORD '{other.passwords[LOGIN]}'")
    more = {"DATABASE_URL_FILE": "", "DATABASE_URL": other.url(LOGIN, DATABASE)}
    site.release.run("check", more=more)
    counted = {name: other.one(f"SELECT count(*) FROM withdrawals.{name}") for name in _COUNTED}
    require(all(counted.values()), f"the copy is empty: {counted}")
    items = {item["what"]: item["level"] for item in site.release.ask("doctor", more=more, codes=(0, 1))["items"]}
    require(items["session"] == items["role"] == "ok", f"the restored login is not as it was: {items}")
    other.close()
    return f"{dump.stat().st_size:,} bytes under load; restored with {counted}; `check` there is clean"


def erase(site: Site) -> str:
    """Somebody who has left is erased by the owner of the schema, and is in no table of the service any more."""
    number = next(iter(sorted(site.load.events.values())))
    gone, mail = external_id(number), f"person{number}@acme.example"
    site.postgres.run(f"GRANT withdrawals_service TO {OWNER}")  # docs/operations/erase-a-person.md
    more = site.as_owner() | {"DATABASE_URL_FILE": str(site.secret("DATABASE_DIRECT_URL"))}
    until(lambda: not _is_unfinished(site, number), "what the person had has ended")
    words = ("person", "erase", gone, "--organisation", "Acme")
    site.release.run(*words, "--plan", more=more)
    site.release.run(*words, "--note", "request 2026-117", more=more)
    site.secret("DATABASE_DIRECT_URL").unlink()
    site.postgres.run(
        f"UPDATE lms.learners SET external_id = 'gone-{number}', email = NULL, display_name = NULL WHERE id = {number}",
        login="lms_platform",
    )
    url = site.postgres.url("dba", DATABASE)
    everything = run([site.postgres.programs / "pg_dump", "--data-only", url], site.bare())
    left = [word for word in (gone, mail) if word in everything]
    require(not left, f"still there: {left}")
    site.release.run("check")
    return f"{gone} and their address are in no row of either schema; the books are clean"


def _is_unfinished(site: Site, number: int) -> bool:
    query = sql.SQL("SELECT active FROM lms.learners WHERE id = {}").format(number).as_string(None)
    return bool(site.postgres.one(query)) or bool(
        site.postgres.one(
            "SELECT count(*) FROM lms.enrolments WHERE learner_id = %s AND status = 'in_progress'", [number]
        )
    )
