"""The command line without its start: loaded once, forked for each command.

Importing the program takes a second or two of processor time, and the pages of the documentation have many commands. A
small program called `withdrawals` hands its arguments, folder, environment and streams to a server, which forks, runs
the real command line in the child, and hands the exit code back.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import process
from tests.world import eventually

_CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
server.sendall(request)
sys.exit(server.recv(1)[0])
"""


@contextmanager
def quick_commands(folder: Path) -> Iterator[Path]:
    """A folder with a program `withdrawals`, to be put on PATH. `folder`: where it is put."""
    client = folder / "withdrawals"
    address = Path(tempfile.mkdtemp(prefix="wd-cli-")) / "socket"  # a socket needs a short path
    client.write_text(_CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
    client.chmod(0o755)
    try:
        with process([sys.executable, "-m", "tests.support.cli_server", str(address)]):
            eventually(address.exists)
            yield folder
    finally:
        shutil.rmtree(address.parent)


def _serve(address: str) -> None:
    from ops.cli import main  # noqa: F401 - loaded once, for all commands

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen()
    os.rename(f"{address}.new", address)  # noqa: PTH104 - whoever sees it can connect
    while True:
        client, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _answer(client)
            os._exit(0)
        client.close()


def _answer(client: socket.socket) -> None:
    """Run one command in a child of its own, and tell its exit code; so that it may end in whatever way it likes."""
    length, streams, _, _ = socket.recv_fds(client, 4, 3)
    request = b""
    while len(request) < int.from_bytes(length, "big"):
        request += client.recv(65_536)
    arguments, folder, environment = json.loads(request)
    child = os.fork()
    if child == 0:
        client.close()
        _run(arguments, folder, environment, streams)
    client.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255]))


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    from ops.cli import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["withdrawals", *arguments]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
