"""A real Firefox, driven over WebDriver BiDi (W3C) as it speaks it itself.

Playwright drives a Firefox of its own build, which Debian does not have. Clicks and keys are the browser's input
events, so that what covers a button is noticed as a person would notice it.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.world import PATIENCE, eventually

_FIND = """(role, name) => {
    const tags = {link: 'a[href]', button: 'button, summary', field: 'label', heading: 'h1, h2'};
    const found = [...document.querySelectorAll(tags[role])].filter(
        one => one.checkVisibility() && one.innerText.replace(/\\s+/g, ' ').trim().startsWith(name));
    if (!found.length) return null;
    found[0].scrollIntoView({block: 'center', behavior: 'instant'});
    const box = found[0].getClientRects()[0];
    const at = [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
    const hit = document.elementFromPoint(...at);
    return found[0].contains(hit) || found[0].control === hit ? at : null;
}"""
"""The middle of what is seen with this name, once nothing covers it."""
_LISTEN = """() => {
    window.pressed = '';
    addEventListener('click', event => {
        const one = event.target.closest('a, button, summary, label, h1, h2');
        window.pressed = one ? one.innerText.replace(/\\s+/g, ' ').trim() : '';
    }, {capture: true, once: true});
}"""
_HIT = "name => window.pressed === undefined || window.pressed.startsWith(name)"
"""Whether the click came to what has this name; also if it has led to another page already."""

KEYS = {"Enter": "\ue007", "Tab": "\ue004", "Escape": "\ue00c", "Control": "\ue009"}
"""Keys as WebDriver writes them."""


class Firefox:
    """One window."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._count = connection, 0
        self._send("session.new", capabilities={})
        self._context = self._send("browsingContext.getTree")["contexts"][0]["context"]

    def goto(self, url: str) -> None:
        """Load a page, with all that it needs."""
        self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def resize(self, width: int, height: int) -> None:
        """Give the page this room, in CSS pixels."""
        size = {"width": width, "height": height}
        self._send("browsingContext.setViewport", context=self._context, viewport=size)

    def run(self, function: str, *values: object) -> Any:
        """What a function of JavaScript gives; its values and its result are JSON."""
        arguments = ", ".join(json.dumps(value) for value in values)
        expression = f"JSON.stringify(({function})({arguments}) ?? null)"
        answer = self._send(
            "script.evaluate", expression=expression, target={"context": self._context}, awaitPromise=False
        )
        if answer["type"] != "success":
            raise FirefoxError(f"{function}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"])

    def click(self, role: str, name: str) -> None:
        """Click what begins with this name, once it can be clicked: a `link`, `button`, `field` or `heading`.

        Again if something has moved it away in that moment, as the rest of a page does that comes late.
        """
        eventually(lambda: self._click(eventually(lambda: self._find_still(role, name)), name))

    def _click(self, at: tuple[int, int], name: str) -> bool:
        self._try(_LISTEN)
        x, y = at
        move = {"type": "pointerMove", "x": x, "y": y}
        press = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._act({"type": "pointer", "id": "mouse", "actions": press})
        return self._try(_HIT, name) is not False

    def press(self, *keys: str) -> None:
        """Press keys together."""
        codes = [KEYS.get(key, key) for key in keys]
        self._press([*(("keyDown", code) for code in codes), *(("keyUp", code) for code in reversed(codes))])

    def type(self, text: str) -> None:
        """Type a text into what has the focus; without a pause, after which a list of choices begins to search anew."""
        self._press([(move, letter) for letter in text for move in ("keyDown", "keyUp")])

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file in the field that a selector finds, once it is there."""
        expression = f"document.querySelector({json.dumps(selector)})"
        wanted = {"expression": expression, "target": {"context": self._context}, "awaitPromise": False}
        found = eventually(lambda: self._send("script.evaluate", **wanted).get("result", {}).get("sharedId"))
        element = {"sharedId": found}
        self._send("input.setFiles", context=self._context, element=element, files=[str(path)])

    def says(self, text: str) -> None:
        """Until the page shows this text."""
        eventually(lambda: self._try("text => document.body.innerText.includes(text)", text))

    def _find_still(self, role: str, name: str) -> Any:
        """Where it is, if it was there a moment ago, too: a page that is still drawn moves what one aims at."""
        before = self._try(_FIND, role, name)
        time.sleep(0.1)
        return before if before and before == self._try(_FIND, role, name) else None

    def _try(self, function: str, *values: object) -> Any:
        """As `run`; None while a page makes way for the next, when there may be no body yet."""
        try:
            return self.run(function, *values)
        except FirefoxError:
            return None

    def _press(self, moves: list[tuple[str, str]]) -> None:
        self._act({"type": "key", "id": "keys", "actions": [{"type": move, "value": key} for move, key in moves]})

    def _act(self, source: dict[str, object]) -> None:
        self._send("input.performActions", context=self._context, actions=[source])

    def _send(self, method: str, /, **params: object) -> Any:
        self._count += 1
        self._connection.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer.get("id") == self._count:
                if answer["type"] == "error":
                    raise FirefoxError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]


class FirefoxError(Exception):
    """The browser refused a command."""


@contextmanager
def firefox() -> Iterator[Firefox]:
    """The system's Firefox with an empty profile. Where there is none the test is skipped, but not in CI."""
    found = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Firefox here; .ci/run installs it")
        pytest.skip("no Firefox here; install it to run the console's stories in it")
    with tempfile.TemporaryDirectory(prefix="withdrawals-firefox-") as profile:
        command = [found, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        browser = subprocess.Popen(
            command, env={**os.environ, "HOME": profile}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        with browser:
            assert browser.stderr
            address = next(filter(None, (re.search(r"BiDi listening on (ws://\S+)", line) for line in browser.stderr)))[
                1
            ]
            try:
                with connect(f"{address}/session", max_size=None) as connection:
                    yield Firefox(connection)
            finally:
                browser.terminate()
