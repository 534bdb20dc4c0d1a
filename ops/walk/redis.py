"""A Redis server of the walk's own: with passwords, without its default user, with the service's user of the docs."""

import re
import secrets
from pathlib import Path

import redis

from ops.local.redis import find_program
from ops.walk.programs import Program, free_port
from ops.walk.waiting import WalkError, until

_PAGE = Path(__file__).parents[2] / "docs/operations/least-privilege.md"
_RULES = re.compile(r"^ *ACL SETUSER (?P<words>.+)$", re.MULTILINE)
USER = "withdrawals"


class Redis:
    """One server below a folder."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._admin = secrets.token_urlsafe(16)
        config = folder / "redis.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {self.port}\nsave ''\nappendonly no\ndir {folder}\n"
            f"user default off\nuser admin on >{self._admin} ~* &* +@all\n",
            encoding="utf-8",
        )
        config.chmod(0o600)
        self._program = Program([find_program(), config], folder / "redis.log")
        self.admin = redis.Redis(port=self.port, username="admin", password=self._admin)
        until(self._answers, "Redis answers")

    def make_user(self) -> str:
        """Make the user of docs/operations/least-privilege.md; its `BROKER_URL`."""
        found = _RULES.search(_PAGE.read_text(encoding="utf-8"))
        if found is None:
            raise WalkError(f"{_PAGE.name} has no ACL SETUSER")
        password = secrets.token_urlsafe(16)
        self.admin.execute_command("ACL", "SETUSER", *found["words"].replace("PASSWORD", password).split())  # type: ignore[no-untyped-call]
        return self.url(USER, password)

    def make_other(self, name: str) -> str:
        """Make a user that may do everything, for a release that documents none; its `BROKER_URL`, another database."""
        password = secrets.token_urlsafe(16)
        self.admin.execute_command("ACL", "SETUSER", name, "on", f">{password}", "~*", "&*", "+@all")  # type: ignore[no-untyped-call]
        return self.url(name, password, database=1)

    def url(self, user: str, password: str, *, database: int = 0) -> str:
        """The value for BROKER_URL."""
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def refused(self) -> list[str]:
        """Commands that the ACL has refused to the service's user."""
        return [str(entry["object"]) for entry in self.admin.acl_log() if entry["username"] == USER]

    def close(self) -> None:
        self.admin.close()
        self._program.stop()

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.RedisError:
            return False
