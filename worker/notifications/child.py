"""Runs Apprise in a process of its own: one message, or a look at one URL. JSON from stdin, JSON to stdout.

Here it can neither hang a worker nor reach what it must not: every connection of this process is looked at before it is
made, by Python's audit hook, whatever library makes it. The parent ends the process when its time is over.
"""

import contextlib
import io
import ipaddress
import json
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Any

_LONGEST = 60
"""Seconds after which the system ends this process, should its parent have died."""
NOT_SENT = "not sent"
UNREADABLE = "not read"
"""Of a URL of which Apprise makes nothing."""
PRIVATE = "private address"


class _Guard:
    """Refuses connections to addresses that are not public, and every start of another program."""

    def __init__(self, networks: list[str], *, anywhere: bool) -> None:
        self.networks = [ipaddress.ip_network(one) for one in networks]
        self.anywhere = anywhere
        self.refused = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            self._look_at(arguments[1])
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"):
            raise PermissionError("no other program is started")

    def _look_at(self, address: Any) -> None:
        from worker.public_addresses import is_public  # noqa: PLC0415 - the path has to be known first

        try:
            host = ipaddress.ip_address(str(address[0]).partition("%")[0])
        except (ValueError, TypeError, IndexError):
            host = None  # a socket of this machine, or a name that was not looked up
        allowed = host is not None and (
            self.anywhere or is_public(str(host)) or any(host in one for one in self.networks)
        )
        if not allowed:
            self.refused = True
            raise PermissionError(PRIVATE)


class _Records(logging.Handler):
    """Keeps what Apprise says about a failure: it answers only that it has failed."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage()[:500])


_KNOWN = (
    (re.compile(r"\(?\b([45]\d\d), b['\"]"), "SMTP {}"),
    (re.compile(r"\berror=(\d{3})\b"), "HTTP {}"),
    (re.compile(r"\[Errno -?\d+\] ([A-Za-z ]{3,60})"), "{}"),
    (re.compile(r"(SMTP AUTH|No suitable authentication)"), "the server takes no password"),
    (re.compile(r"(STARTTLS) extension not supported"), "the server has no {}"),
    (re.compile(r"(certificate verify failed)", re.IGNORECASE), "certificate not accepted"),
    (re.compile(r"(timed out|timeout)", re.IGNORECASE), "timed out"),
    (re.compile(r"(Name or service not known|resolve)", re.IGNORECASE), "the host name does not resolve"),
)
"""What is taken over of what Apprise says. The lines themselves may hold passwords, tokens and addresses."""


def find_cause(lines: list[str]) -> str:
    """Why a message was not sent, in a few words without anything of the URL or the message."""
    for pattern, words in _KNOWN:
        for line in reversed(lines):
            found = pattern.search(line)
            if found is not None:
                return words.format(found.group(1))
    return NOT_SENT


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Look at a URL, or send a message to it."""
    import apprise  # noqa: PLC0415 - it costs 30 MB of memory, which only this process has to bear
    from apprise.plugins.email import base as mail  # noqa: PLC0415
    from apprise.utils.parse import parse_url  # noqa: PLC0415

    records = _Records()
    log = logging.getLogger("apprise")
    log.handlers, log.propagate = [records], False
    log.setLevel(logging.DEBUG)
    asset = apprise.AppriseAsset(
        app_id="Withdrawals", app_desc="Withdrawals", app_url="", async_mode=False, secure_logging=True,
        http_redirects=False, plugin_paths=[], storage_mode=apprise.PersistentStoreMode.MEMORY,
    )  # fmt: skip
    given = parse_url(task["url"], verify_host=False) or {}  # type: ignore[no-untyped-call]
    unknown = set(given.get("qsd", ())) - set(task["options"])  # of `+name`, `-name` and `:name` this is the whole
    if unknown and not task["anywhere"]:
        return {"error": "unknown option", "option": min(unknown)[:40]}
    service = apprise.Apprise.instantiate(task["url"], asset=asset)
    if service is None:
        return {"error": UNREADABLE}
    if "title" not in task:
        shown = str(service.url(privacy=True)).partition("?")[0]  # type: ignore[no-untyped-call]
        mails = [address for _, address in service.targets] if isinstance(service, mail.NotifyEmail) else None
        return {"shown": shown, "receivers": len(service) if mails is None else len(mails), "mails": mails}
    message_id = task["message_id"]
    # The same at each attempt, so that a repetition can be told.
    mail.make_msgid = lambda *_, **__: message_id  # type: ignore[attr-defined]
    guard = _Guard(task["networks"], anywhere=task["anywhere"])
    sys.addaudithook(guard)
    sent = service.notify(body=task["body"], title=task["title"], body_format=apprise.NotifyFormat.TEXT)
    return {} if sent else {"error": PRIVATE if guard.refused else find_cause(records.lines)}


def main() -> None:
    """One task."""
    signal.alarm(_LONGEST)
    task = json.load(sys.stdin)
    sys.path.insert(0, str(Path(__file__).parents[2]))
    with contextlib.redirect_stdout(io.StringIO()):  # whatever a library prints is not the answer
        try:
            answer = run(task)
        except Exception as error:
            answer = {"error": f"{NOT_SENT} ({type(error).__name__})" if "title" in task else UNREADABLE}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
