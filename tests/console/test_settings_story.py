"""An owner connects an HR system and a machine on a phone; the other tests of these pages need no browser."""

import re

from playwright.sync_api import expect

from tests.support.console import ABOUT_COLOUR, SignIn, accessible, says
from tests.world import World


def test_an_owner_connects_an_hr_system_and_a_machine(sign_in: SignIn, world: World) -> None:
    page = sign_in("owner", name="ada", viewport={"width": 390, "height": 800})
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Settings").click()
    says(page, "No HR source yet")
    key = page.get_by_label(re.compile("^Key of the HR system"))
    expect(key).to_be_hidden()
    page.get_by_label("Which HR system").select_option("hibob")
    expect(key).to_be_visible()
    expect(page.get_by_text("the access token of the connection")).to_be_hidden()
    page.get_by_label("Which HR system").select_option("standard")
    page.get_by_label("Name").fill("payroll")
    page.get_by_label("When a person is deactivated").select_option("hold")
    page.get_by_role("button", name="Connect").click()
    secret = page.get_by_label("The secret", exact=True)
    secret.wait_for()
    assert secret.inner_text().startswith("whsec_")
    assert "whsec" not in page.url
    accessible(page)
    page.emulate_media(color_scheme="dark")
    accessible(page, ABOUT_COLOUR)
    says(page, "Never heard")
    page.set_viewport_size({"width": 1440, "height": 900})
    test = page.get_by_role("button", name="It is copied: send a test event")
    for one in (secret, page.get_by_role("button", name="Copy the secret"), test):
        expect(one).to_be_in_viewport(ratio=1)
    assert "/hooks/hr/payroll" in page.get_by_role("region", name="Copy the secret now").inner_text()
    test.click()
    says(page, "The test event was taken in: this side works.")
    expect(secret).to_have_count(0)
    expect(page.get_by_role("button", name="Send a test event")).to_be_in_viewport(ratio=1)
    page.set_viewport_size({"width": 390, "height": 800})
    says(page, "A test from this page")
    says(page, "Test received")
    says(page, "Test event received")
    says(page, "no real event yet")
    expect(page.get_by_text("Never heard")).to_have_count(0)
    page.get_by_role("link", name="All HR sources").click()
    says(page, "no real event yet")
    page.get_by_role("link", name="Tokens").click()
    page.get_by_label("Name").fill("enrolment sync")
    page.get_by_label("Role").select_option("producer")
    page.get_by_role("button", name="Make a token").click()
    says(page, "Copy the token now")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    row = page.get_by_role("row").filter(has_text="enrolment sync")
    row.get_by_text("Revoke …").click()
    row.get_by_role("button", name="Revoke enrolment sync").click()
    says(page, "Token enrolment sync is revoked.")
    says(page, "made the token enrolment sync with the role producer")
    assert world.one("SELECT count(*) FROM withdrawals.tokens WHERE revoked_at IS NULL") == 1
