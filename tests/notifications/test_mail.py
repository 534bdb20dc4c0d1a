"""Notifications by mail, through a real SMTP server: told once, with a link, again after a failure, never twice at once."""

from schemas.notifications import NotificationRequest
from tests.notifications.conftest import PUBLIC, MailServer
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.ledger.notification_targets import TargetRecord
from worker.notifications import targets
from worker.notifications.scan import NoticeScan
from worker.notifications.sender import Sender


def add(db: Database, world: World, mailing: Settings, **wanted: object) -> TargetRecord:
    request = NotificationRequest.model_validate({"to": "support@help.example", **wanted})
    return targets.add(db, mailing, organisation_id=world.organisation_id, wanted=request, actor="test:owner")


def tell(db: Database, mailing: Settings) -> int:
    """One look of the relay, and one run of a worker; the number of attempts."""
    NoticeScan(db, mailing).step()
    return Sender(db, mailing).run()


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
    assert mail["Message-ID"] == "<withdrawals-1@withdrawals.example>"
    assert server.text() == (
        "1 job waits for a second person.\n"
        f"- Job {job.id}: User does not want to complete the enrolment, 3 learners\n"
        f"  {PUBLIC}/console/jobs/{job.id}\n\n"
        "Sent by the withdrawal service, notification 1 of Acme.\n"
    )
    assert tell(db, mailing) == 0, "it is told once"
