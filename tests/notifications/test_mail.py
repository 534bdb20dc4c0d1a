"""Notifications by mail, through a real SMTP server: a held job with its link, failures, a server that hangs."""

import socket

import pytest

from tests.notifications.conftest import PUBLIC, Post, add, pause_is_over, tell
from tests.support.commandline import done, withdrawals
from tests.support.mail import MailServer
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError
from worker.ledger import gauges
from worker.notifications import transport
from worker.notifications.scan import NoticeScan


def test_a_held_job_is_told_once_by_mail_with_a_link(
    db: Database, world: World, mailing: Settings, server: MailServer
) -> None:
    world.submit(db, world.enrolments(2))  # held before anybody wanted to know
    add(db, world, mailing)
    job = world.submit(db, world.enrolments(3), reason="learner_declined")
    assert job.state == "held"
    assert tell(db, mailing) == 1
    (mail,) = server.mails
    assert server.receivers == ["support@help.example"]
    assert mail["Subject"] == "Acme: 1 job waits for a second person"
    assert mail["From"] == "service@withdrawals.example"
    assert mail.get_all("Message-ID") == ["<withdrawals-1@withdrawals.example>"]
    assert mail.get_content_type() == "text/plain"
    assert server.text() == (
        "1 job waits for a second person.\n"
        f"- Job {job.id}: User does not want to complete the enrolment, 3 learners\n"
        f"  {PUBLIC}/console/jobs/{job.id}\n\n"
        "Sent by the withdrawal service, notification 1 of Acme.\n"
    )
    assert tell(db, mailing) == 0, "it is told once"


def test_a_server_that_refuses_is_tried_again_and_then_the_message_has_failed(
    db: Database, world: World, mailing: Settings, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = add(db, world, mailing)
    world.submit(db, world.enrolments(1))
    server.answer = "550 no such user"
    assert tell(db, mailing) == 1
    (message,) = done("notifications", "messages", "--state", "due")["items"]
    assert (message["attempts"], message["last_error"]) == (1, "SMTP 550")
    world.submit(db, world.enrolments(1))
    pause_is_over(world)
    assert NoticeScan(db, mailing).step() == 0, "a target has one message on its way"

    post = Post()
    monkeypatch.setattr(transport, "send", post)
    post.error = "SMTP 451"
    world.run("UPDATE withdrawals.notification_messages SET give_up_at = now()")
    tell(db, mailing)
    with db.begin() as connection:
        assert gauges.messages(connection) == {"due": 0, "failed": 1}
    assert "SMTP 451" in withdrawals("notifications", "messages", "--state", "failed").out
    post.error = None
    done("notifications", "retry", message["id"])
    assert done("notifications", "test", made.id)["state"] == "delivered"
    for _ in range(2):  # what is tried again, then what came meanwhile
        tell(db, mailing)
        pause_is_over(world)
    assert post.titles[1:] == ["Acme: test notification", *["Acme: 1 job waits for a second person"] * 2]
    actions = [
        row.action
        for row in world.run("SELECT action FROM withdrawals.audit WHERE action ~ 'notification' ORDER BY id")
    ]
    assert actions == ["notification.add", "notification.retry"]


def test_a_server_that_hangs_is_left_after_a_time(
    db: Database, world: World, mailing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("WITHDRAWALS_MAIL_URL", f"mailto://127.0.0.1:{port}?from=service@withdrawals.example")
        made = add(db, world, mailing)
        sent = withdrawals("notifications", "test", made.id, "--json")
    assert sent.code == 1
    assert (sent.document["state"], sent.document["last_error"]) == ("failed", "timed out")


def test_an_address_of_users_reaches_no_private_network_unless_it_is_allowed(
    db: Database, world: World, mailing: Settings, server: MailServer
) -> None:
    secret = "Pa55-of-the-mail-server"  # noqa: S105 - it is looked for
    url = f"mailto://{secret}:{secret}@localhost:{server.port}?from=a@x.example&to=ops@x.example&mode=insecure"
    made = add(db, world, mailing, url=url)
    assert made.shown == "mail to ops@x.example"
    assert secret not in world.one("SELECT address FROM withdrawals.notification_targets")
    sent = withdrawals("notifications", "test", made.id)
    assert "private address" in sent.out
    assert server.mails == []
    allowed = mailing.model_copy(update={"notification_networks": "127.0.0.0/8"})
    assert allowed.notification_networks
    world.submit(db, world.enrolments(1))
    tell(db, allowed)
    (message,) = done("notifications", "messages", "--state", "due")["items"]
    assert message["last_error"] == "the server takes no password", "it was reached"
    for shown in (withdrawals("notifications", "list").out, withdrawals("notifications", "messages").out, sent.out):
        assert secret not in shown


REFUSED = {
    "file:///etc/passwd": "must begin with one of mailto://",
    "mailto:a@x.example": "must begin with one of mailto://",
    "mailto://x.example?from=a@x.example&to=b@x.example&%70gppub=/etc/passwd": "unknown option 'pgppub'",
    "mailto://x.example?from=a@x.example&to=b@x.example;verify=no": "unknown option 'verify'",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#a?redirect=yes": "unknown option 'redirect'",
    "mailto://x.example?from=a@x.example&to=b@x.example,c@x.example": "must have one receiver, and has 2",
    "slack://T1JJ3T3L2": "not complete for this service",
}


def test_a_url_that_asks_for_more_than_a_message_is_refused(db: Database, world: World, mailing: Settings) -> None:
    for url, why in REFUSED.items():
        with pytest.raises(InvalidInputError, match=why) as refused:
            add(db, world, mailing, url=url)
        assert not {"T1JJ3T3L2", "x.example", "passwd"} & set(str(refused.value).replace("/", " ").split())
    slack = add(db, world, mailing, url="slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23support")
    assert slack.shown == "slack://T...2/A...D/T...Q/%23support/"


def test_a_url_that_could_not_be_looked_at_is_not_called_wrong(
    db: Database, world: World, mailing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_run", lambda *_: {"error": "timed out"})
    with pytest.raises(ConflictError, match="could not be looked at just now"):
        add(db, world, mailing, url="slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23support")
    assert world.one("SELECT count(*) FROM withdrawals.notification_targets") == 0
