"""What the steps of a walk share: a folder, the servers, the installed release, its processes and the load on them."""

import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.walk.load import Load
from ops.walk.postgres import PostgreSQL
from ops.walk.prometheus import Prometheus
from ops.walk.receiver import Receiver
from ops.walk.redis import Redis
from ops.walk.releases import Release
from ops.walk.service import Service

DATABASE = "lms"
OWNER, LOGIN = "withdrawals_owner", "withdrawals_login"
LEARNERS = 60_000
"""So many that the brake lets pass what the load withdraws: a fifth in a day."""


class Site:
    """A context manager: when it ends, nothing that it started runs any more. Folder and logs are the caller's."""

    release: Release
    service: Service
    prometheus: Prometheus

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = self._make("logs")
        self.home = self._make("home")
        self._secrets = self._make("secrets")
        self._secrets.chmod(0o700)
        self._make("tmp")
        self.stack = ExitStack()
        self.load = Load(learners=LEARNERS)
        self.ids: dict[str, str] = {}
        """Ids of what was made on the way, by name."""

    def __enter__(self) -> Self:
        self.postgres = PostgreSQL(self.folder / "postgresql")
        self.stack.callback(self.postgres.close)
        self.postgres.start()
        self.redis = Redis(self.folder)
        self.stack.callback(self.redis.close)
        self.receiver = Receiver()
        self.stack.callback(self.receiver.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def environment(self) -> dict[str, str]:
        """All that a command of the service gets: secrets by file, an empty home, nothing of this process's own."""
        return {
            **self.bare(),
            **{f"{name}_FILE": str(self.secret(name)) for name in ("DATABASE_URL", "BROKER_URL")},
            "WITHDRAWALS_SECRET_KEY_FILE": str(self.secret("WITHDRAWALS_SECRET_KEY")),
            "WITHDRAWALS_LOG_FORMAT": "json",
            "WITHDRAWALS_PROCESSES": "1",
            "WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE": "1",  # the receiver listens on this machine
        }

    def bare(self) -> dict[str, str]:
        """An environment without settings of the service."""
        path = os.pathsep.join([str(self.postgres.programs), "/usr/bin", "/bin"])
        return {
            "PATH": path, "HOME": str(self.home), "TMPDIR": str(self.folder / "tmp"), "LANG": "C.UTF-8", "USER": "walk",
        }  # fmt: skip

    def secret(self, name: str) -> Path:
        """The file of a secret."""
        return self._secrets / name.lower().replace("_", "-")

    def write_secret(self, name: str, value: str) -> None:
        """Write a new file and rename it, so that nobody reads half of it."""
        new = self._secrets / "new"
        new.write_text(value + "\n", encoding="utf-8")
        new.chmod(0o600)
        new.rename(self.secret(name))

    def as_owner(self) -> dict[str, str]:
        """What the owner's commands have in addition: the login that migrates and erases."""
        self.write_secret("DATABASE_DIRECT_URL", self.postgres.url(OWNER, DATABASE))
        return {"DATABASE_DIRECT_URL_FILE": str(self.secret("DATABASE_DIRECT_URL"))}

    def new_key(self) -> str:
        """A secret key, as docs/operations/install.md makes one."""
        return secrets.token_urlsafe(32)

    def _make(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir(exist_ok=True)
        return made
