"""Eleventh: an override is large. The policies want a second person, who acts from the link in a mail.

Support asks; nothing is done. A mail server of this machine receives the mail, sent by the running service. Its link is
opened by an approver who is not signed in: it leads to the sign-in, and from there to the approval. Approving it does
it.
"""

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from schemas.notifications import NoticeKind, NotificationRequest
from tests.approvals.office import ADA, Office
from tests.support.mail import MailServer
from tests.world import World, assert_balanced, eventually
from worker.access import tokens
from worker.config import Settings, settings
from worker.database import Database
from worker.errors import SecondPersonNeededError
from worker.notifications import targets
from worker.queue.broker import make_broker
from worker.web.app import make_app

PUBLIC = "https://withdrawals.example"


@pytest.fixture
def mails(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server that the service sends to at once."""
    server = MailServer()
    monkeypatch.setenv("WITHDRAWALS_MAIL_URL", server.url)
    monkeypatch.setenv("WITHDRAWALS_PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("WITHDRAWALS_NOTIFICATION_GATHER_SECONDS", "0")
    settings.cache_clear()
    yield server
    server.stop()
    settings.cache_clear()


def test_an_approver_acts_from_the_link_in_a_mail(
    mails: MailServer, processes: None, db: Database, world: World
) -> None:
    current = settings()
    office = Office(db, world, current)
    wanted = NotificationRequest(to="eve@acme.example", kinds=[NoticeKind.APPROVAL_ASKED])
    targets.add(db, current, organisation_id=world.organisation_id, wanted=wanted, actor="test:owner")
    ids = world.enrolments(3)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:ids)", p=world.pathway(), ids=ids)
    world.submit(db, ids)
    letters = eventually(lambda: [one.id for one in world.letters()] if len(world.letters()) == 3 else None)
    office.rules(override=2)
    with pytest.raises(SecondPersonNeededError, match="its size is 3, one person alone may do 2"):
        office.resolve(letters, ADA, note="The pathway is closed.")
    assert {world.status(one) for one in ids} == {"in_progress"}

    # The mail, as the server received it.
    eventually(lambda: mails.mails, what="the mail comes")
    assert (mails.receivers, mails.subjects) == (["eve@acme.example"], ["Acme: 1 approval is asked for"])
    (link,) = re.findall(r"https://\S+", mails.text())
    assert link.startswith(f"{PUBLIC}/console/approvals/")

    # The link, opened by an approver who has to sign in first.
    eve = tokens.create(db, organisation_id=world.organisation_id, name="eve", role="approver", actor="cli:root").secret
    app = make_app(db, make_broker(current.broker_url.get_secret_value()), current)
    with TestClient(app, base_url=PUBLIC, follow_redirects=False) as browser:
        sign_in = browser.get(link).headers["location"]
        assert sign_in.startswith("/console/sign-in?next=")
        next_ = browser.get(sign_in).text.split('name="next" value="')[1].split('"')[0]
        assert PUBLIC + next_ == link
        assert browser.post("/console/sign-in", data={"token": eve, "next": next_}).headers["location"] == next_
        page = browser.get(link).text
        assert "Withdraws 3 learners although a Learning Pathway owns the enrolment." in page
        assert "The pathway is closed." in page
        csrf = page.split('name="csrf" value="')[1][:64]
        done = browser.post(f"{link}/approve", data={"csrf": csrf, "note": "Agreed."})
        assert done.status_code == 303

    eventually(lambda: {world.status(one) for one in ids} == {"withdrawn"}, what="all three are withdrawn")
    eventually(lambda: {letter.state for letter in world.letters()} == {"resolved"}, what="the letters are resolved")
    assert office.audited()[-1] == ("token:eve", "approval.approve")
    assert_balanced(db)
