"""A real mail server on this machine."""

import asyncio
import threading
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.smtp import SMTP


class MailServer:
    """A real SMTP server: keeps what it takes in, and answers what the test wants."""

    def __init__(self) -> None:
        self.answer = "250 OK"
        self.mails: list[Message] = []
        self.receivers: list[str] = []
        self._loop = asyncio.new_event_loop()
        serving = self._loop.create_server(lambda: SMTP(self, hostname="mail"), "127.0.0.1", 0)
        self._server = self._loop.run_until_complete(serving)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"mailto://127.0.0.1:{self.port}?from=service@withdrawals.example"

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.answer.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content))
            self.receivers += envelope.rcpt_tos
        return self.answer

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for left in asyncio.all_tasks(self._loop):
            left.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    @property
    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]

    def text(self, place: int = -1) -> str:
        payload = self.mails[place].get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload.decode().replace("\r\n", "\n")
