"""The page of the policies: a rule is changed with its reason, waits for a second person, and has its history."""

from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person
from tests.world import World

HERE = "/console/settings/policies"


def rules(world: World) -> list[tuple[str, str | None, int | None]]:
    found = world.one("SELECT policies FROM withdrawals.organisation_settings")
    return [(rule["act"], rule["source"], rule["alone_up_to"]) for rule in found]


def test_an_owner_changes_one_rule_and_a_second_person_approves(
    client: TestClient, token: MakeToken, world: World
) -> None:
    secret = token("owner", name="ada")
    ada = Person(client, secret)
    assert "Never needs a second person" in ada.get(HERE)
    first = {"act": "override", "source": "hr", "how": "up_to", "size": "1,000", "note": "audit <2026>"}
    for field, wrong, said in (
        ("note", {"note": " "}, "say why"),
        ("act", {"act": ""}, "choose one"),
        ("source", {"act": "lift", "how": "always", "size": ""}, "has none"),
        ("how", {"act": "token", "source": ""}, "has no number of learners"),
        ("size", {"size": ""}, "enter the number"),
        ("size", {"how": "never"}, "leave it empty"),
    ):
        page = ada.post(HERE, 422, **{**first, **wrong}).text
        assert f'id="wrong-{field}"' in page, (field, wrong)
        assert said in page
    ada.post(HERE, **first)
    ada.post(HERE, act="withdraw_series", how="up_to", size="50", note="one Series at a time")
    page = ada.get(HERE)
    for text in ("One person alone up to 1,000 learners", "Held past 50 learners", "Your organisation"):
        assert text in page
    assert (
        "Withdraw anyway (override) from HR system: one person alone up to 1,000 learners: “audit &lt;2026&gt;”" in page
    )
    assert rules(world) == [("override", "hr", 1000), ("withdraw_series", None, 50)]
    assert "these are the rules already" in ada.post(HERE, 422, **first).text

    second = token("owner", name="eve")  # from now on somebody else could approve
    ada.post(HERE, act="override", source="hr", how="default", note="over")
    page = ada.get(HERE)
    assert "approval 1 waits for a second person" in page
    assert "Another person has to decide" not in page
    assert "another person has to decide" in page
    assert 'name="how"' not in page, "one change waits at a time"
    ada.post(HERE, 409, act="lift", how="always", note="x")
    assert len(rules(world)) == 2
    viewer = Person(client, token("viewer"))
    assert "An owner can change the rules." in viewer.get(HERE)
    viewer.post(HERE, 403, **first)
    eve = Person(client, second)
    assert "A change waits" in eve.get(HERE)
    eve.post("/console/approvals/1/approve", note="agreed")
    assert rules(world) == [("withdraw_series", None, 50)]
    assert "Withdraw anyway (override) from HR system: follows the default again: “over”" in eve.get(HERE)
    assert f'href="{HERE}"' in eve.get("/console/brake")
