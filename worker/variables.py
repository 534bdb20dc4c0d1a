"""Names of environment variables: which are ours, what an orchestrator adds, what is misspelt, and secrets in files."""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

PREFIX = "WITHDRAWALS_"
FILE = "_FILE"
"""What the name of a secret's variable ends with if its value is the path of a file that holds the secret."""
_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_LINK_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://\S+:\d+")
_LONGEST_SECRET = 65_536  # bytes
_ALIKE = 0.85


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes (or Docker's links) added this variable for a service whose name begins with `withdrawals`.

    The names are those of Kubernetes' documentation, "Environment variables" of services.
    """
    if _SERVICE_LINK.fullmatch(name):
        return True
    return (name == f"{PREFIX}PORT" or name.endswith("_PORT")) and is_link_address(value)


def is_link_address(value: object) -> bool:
    """Whether this is an address of a service link, such as `tcp://10.0.0.7:8000`; `WITHDRAWALS_PORT` may hold one."""
    return isinstance(value, str) and _LINK_ADDRESS.fullmatch(value) is not None


def unknown(known: Iterable[str]) -> list[str]:
    """What begins like our variables, but is neither `known` nor of an orchestrator; each as a fault that names it."""
    names = set(known)
    faults = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in names and not is_service_link(name, os.environ[name]):
            likely = difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE)
            hint = f" Did you mean {likely[0]}?" if likely else ""
            faults.append(f"{name}: unknown setting.{hint} `withdrawals config` lists all settings.")
    return faults


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """A variable that is set, means nothing to the service, and is nearly called `name`."""
    others = [found for found in os.environ if found not in set(known)]
    likely = difflib.get_close_matches(name, others, n=1, cutoff=_ALIKE)
    return likely[0] if likely else None


def read_secret_files(variables: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The secrets that `…_FILE` names, by the variable that they stand for; and what is wrong with the others.

    White space around a secret is not part of it: most editors end a file with a line break.
    """
    found: dict[str, str] = {}
    faults = []
    for variable in variables:
        path = os.environ.get(variable + FILE)
        if not path:
            continue
        if os.environ.get(variable):
            faults.append(f"{variable + FILE}: {variable} is set as well. Set only one of them.")
            continue
        try:
            found[variable] = _read(Path(path))
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "is not a file with one secret"
            faults.append(f"{variable + FILE}: {path}: {reason}")
    return found, faults


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LONGEST_SECRET + 1)
    secret = content.decode().strip()
    if not secret or len(content) > _LONGEST_SECRET or "\n" in secret or "\x00" in secret:
        raise ValueError
    return secret
