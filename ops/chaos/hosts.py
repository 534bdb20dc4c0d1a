"""Machines in a network, on one machine: network namespaces with addresses of their own, on a bridge. Needs root.

What runs in one reaches the others by TCP alone. When its cable is cut, nobody hears of it: no connection is closed or
refused, packets are lost. `share` gives a host a part of a processor core, so that several fit on a machine with few.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_PROCESSORS = Path("/sys/fs/cgroup/cpu")
_PERIOD = 20_000  # microseconds


class HostsError(Exception):
    """Network namespaces cannot be made here; the message says why."""


def _ip(*arguments: str) -> None:
    done = subprocess.run([_program(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostsError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _program() -> str:
    found = shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None or os.geteuid() != 0:
        raise HostsError("network namespaces need root and the program `ip` (Debian: iproute2)")
    return found


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the network."""

    name: str
    address: str
    cable: str
    share: float | None
    """Of a processor core; None: no limit."""

    def command(self, command: Sequence[str]) -> list[str]:
        """The command line that runs a program there."""
        inside = [_program(), "netns", "exec", self.name, *command]
        if self.share is None:
            return inside
        return ["sh", "-c", f'echo $$ >{_PROCESSORS / self.name}/tasks && exec "$@"', "sh", *inside]

    def pids(self) -> list[int]:
        """The processes that run in it; it needs a share."""
        found = (_PROCESSORS / self.name / "cgroup.procs").read_text(encoding="utf-8")
        return [int(pid) for pid in found.split()]

    def cut(self) -> None:
        """Pull its cable: whatever it sends or is sent from now on is lost."""
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        """Put the cable back."""
        _ip("link", "set", self.cable, "up")


class Network:
    """A bridge, at whose address servers of this machine listen, and the hosts on it; a context manager.

    Raises:
        HostsError: it cannot be made here.
    """

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name = f"wd{os.getpid()}"
        self._prefix = f"10.213.{number}"
        self.address = f"{self._prefix}.1"
        self.net = f"{self._prefix}.0/24"
        self._hosts = 0
        self._shares: dict[Path, float] = {}
        self._made = ExitStack()

    def __enter__(self) -> Self:
        _ip("link", "add", self.name, "type", "bridge")
        self._made.callback(_remove, "link", "del", self.name)
        _ip("addr", "add", f"{self.address}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._made.close()

    def host(self, *, share: float | None = None) -> Host:
        """One more host, connected. `share`: of a processor core (cgroups of version 1)."""
        self._hosts += 1
        host = Host(
            f"{self.name}-{self._hosts}", f"{self._prefix}.{10 + self._hosts}", f"{self.name}v{self._hosts}", share
        )
        _ip("netns", "add", host.name)
        self._made.callback(_remove, "netns", "del", host.name)
        _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        _ip("link", "set", host.cable, "master", self.name, "up")
        _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", host.name, "link", "set", device, "up")
        if share is not None:
            self._limit(host.name, share)
        return host

    def confine(self, pids: Sequence[int], share: float) -> None:
        """Give processes of this machine, and those that they start, a part of a processor core together.

        One that has ended since `pids` were listed is left out; name a process before those that it started.
        """
        group = self._limit(f"{self.name}-server", share)
        for pid in pids:
            with suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid), encoding="utf-8")

    @contextmanager
    def without_limits(self) -> Iterator[None]:
        """Let everything run as fast as it can meanwhile, such as what starts and is not measured."""
        for group in self._shares:
            _set_quota(group, -1)
        try:
            yield
        finally:
            for group, share in self._shares.items():
                _set_quota(group, round(_PERIOD * share))

    def _limit(self, name: str, share: float) -> Path:
        group = _PROCESSORS / name
        try:
            group.mkdir()
            self._made.callback(_remove_group, group)
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD), encoding="utf-8")
            _set_quota(group, round(_PERIOD * share))
            self._shares[group] = share
        except OSError as error:
            raise HostsError(f"a share of a processor needs cgroups of version 1: {error}") from None
        return group


def _set_quota(group: Path, quota: int) -> None:
    """Microseconds of processor time in each period; -1: no limit."""
    (group / "cpu.cfs_quota_us").write_text(str(quota), encoding="utf-8")


def _remove(*arguments: str) -> None:
    with suppress(HostsError):
        _ip(*arguments)


def _remove_group(group: Path) -> None:
    with suppress(OSError):
        group.rmdir()
