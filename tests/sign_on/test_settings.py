"""Settings of the sign-in: what is refused at the start, and what `doctor` finds."""

import pytest

from schemas.catalogue import Role
from tests.support.commandline import withdrawals
from tests.support.providers import PUBLIC, Forger
from tests.world import World
from worker.config import Settings, settings
from worker.errors import SettingsError
from worker.sign_on.provider import Provider
from worker.sign_on_settings import Grant, parse_grants


def test_groups_are_mapped_to_roles_whatever_their_names() -> None:
    found = parse_grants("CN=it,OU=people@acme=owner@Acme = Co; ;x=operator@B")
    assert found == [Grant("CN=it,OU=people@acme", Role.OWNER, "Acme = Co"), Grant("x", Role.OPERATOR, "B")]
    for wrong in ("staff", "staff=viewer", "staff=producer@Acme", "=viewer@Acme", "staff=viewer@"):
        with pytest.raises(ValueError, match="GROUP=ROLE@ORGANISATION"):
            parse_grants(wrong)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OIDC_ISSUER", "http://login.example"),
        ("OIDC_ISSUER", "https://user@login.example"),
        ("OIDC_ISSUER", "https://login.example/?tenant=1"),
        ("OIDC_ISSUER", "login.example"),
        ("OIDC_SCOPES", "profile"),
        ("OIDC_ROLES", "staff=boss@Acme"),
        ("SESSION_IDLE_MINUTES", "1"),
    ],
)
def test_a_wrong_setting_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"WITHDRAWALS_{variable}", value)
    settings.cache_clear()
    with pytest.raises(SettingsError, match=f"WITHDRAWALS_{variable}"):
        settings()
    settings.cache_clear()


def test_settings_that_need_each_other_are_set_together() -> None:
    with pytest.raises(SettingsError, match=r"PUBLIC_URL(.|\n)*CLIENT_ID(.|\n)*ROLES"):
        Provider.of(Settings(oidc_issuer="https://login.example"))
    with pytest.raises(SettingsError, match="CONSOLE_TOKENS"):
        Provider.of(Settings(console_tokens=False))


def test_the_doctor_tries_the_provider(
    environment: Settings, world: World, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> dict[str, str]:
        settings.cache_clear()
        items = withdrawals("doctor", "--json").document["items"]
        return {item["level"]: item["finding"] for item in items if item["what"] == "sign-in"}

    assert "with tokens" in said()["ok"]
    for name, value in {
        "OIDC_ISSUER": forger.issuer, "OIDC_CLIENT_ID": "withdrawals", "OIDC_ROLES": "staff=viewer@Nowhere",
        "PUBLIC_URL": PUBLIC.replace("http:", "https:"),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"WITHDRAWALS_{name}", value)
    found = said()
    assert "/console/sign-in/callback" in found["ok"]
    assert "'Nowhere'" in found["warn"]
    forger.metadata = {"issuer": "https://else.example"}
    assert "https://else.example" in said()["wrong"]
    forger.down = True
    assert "does not answer" in said()["wrong"]
