"""An organisation with policies, and people who ask and decide."""

from typing import Any
from uuid import uuid4

from schemas.approvals import Approval, Policies, PolicyRequest
from schemas.control import BrakeSetting
from schemas.dead_letters import LetterFilter
from schemas.job_filter import ReleaseFilter
from schemas.protections import ProtectionRequest
from tests.support.racing import job_state
from tests.world import World, decide_due
from worker.access import policies, tokens
from worker.access.persons import Actor
from worker.approvals import decisions
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies, run_steps, runs
from worker.jobs import brake, control
from worker.ledger import approvals
from worker.people import protections
from worker.records import Job

ADA, EVE, ZOE = (Actor(f"token:{name}", made_by="cli:root") for name in ("ada", "eve", "zoe"))


class Office:
    """Asks and decides in the organisation of a world."""

    def __init__(self, db: Database, world: World, settings: Settings) -> None:
        self.db, self.world, self.settings = db, world, settings
        self.organisation: dict[str, Any] = {"organisation_id": world.organisation_id}
        made = tokens.create(db, **self.organisation, name="ada", role="owner", actor="cli:root")
        self.ada_id = made.token.id

    def rules(self, **alone_up_to: int | None) -> None:
        """Set rules by act, or act and source (`override__hr=0`), past any approval."""
        parts = [(name.partition("__"), size) for name, size in alone_up_to.items()]
        wanted = [{"act": act, "source": source or None, "alone_up_to": size} for (act, _, source), size in parts]
        with self.db.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (%s) ON CONFLICT DO NOTHING",
                (self.world.organisation_id,),
            )
            approvals.set_rules(connection, self.world.organisation_id, wanted)

    def set_policies(self, who: Actor, note: str = "agreed", *, rules: list[dict[str, Any]]) -> Policies:
        wanted = PolicyRequest.model_validate({"rules": rules, "note": note})
        return policies.replace(self.db, **self.organisation, wanted=wanted, who=who)

    def letters(self, count: int = 1) -> list[int]:
        """Open letters of enrolments that a pathway owns, each of a learner of their own."""
        before = {letter.id for letter in self.world.letters()}
        ids = self.world.enrolments(count)
        self.world.run(
            "UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:ids)", p=self.world.pathway(), ids=ids
        )
        self.world.submit(self.db, ids)
        decide_due(self.db, self.settings)
        return [letter.id for letter in self.world.letters() if letter.id not in before]

    def resolve(self, letter_ids: list[int], who: Actor = ADA, remedy: str = "override", note: str = "agreed") -> None:
        remedies.resolve(
            self.db,
            **self.organisation,
            letter_ids=letter_ids,
            remedy=remedy,
            actor=who.name,
            made_by=who.made_by,
            note=note,
            door="api",
        )

    def held_job(self, count: int = 3) -> Job:
        """A job of `test:admin` that the brake holds."""
        setting = BrakeSetting(floor=0, share=0.0)
        brake.set_limits(self.db, **self.organisation, wanted=setting, actor="test:x")
        return self.world.submit(self.db, self.world.enrolments(count))

    def release(self, job: Job, who: Actor = ADA, note: str = "agreed") -> Job:
        return control.release(
            self.db, **self.organisation, job_id=job.id, actor=who.name, made_by=who.made_by, note=note
        )

    def approve(self, approval_id: int, who: Actor = EVE, note: str | None = None) -> Approval:
        return decisions.approve(self.db, **self.organisation, approval_id=approval_id, who=who, note=note)

    def reject(self, approval_id: int, who: Actor = EVE, note: str = "no") -> Approval:
        return decisions.reject(self.db, **self.organisation, approval_id=approval_id, who=who, note=note)

    def withdraw(self, approval_id: int, who: Actor = ADA) -> Approval:
        return decisions.withdraw(self.db, **self.organisation, approval_id=approval_id, who=who)

    def show(self, approval_id: int) -> Approval:
        return decisions.show(self.db, **self.organisation, approval_id=approval_id)

    def states(self) -> list[str]:
        """Of all letters, by id."""
        return [letter.state for letter in self.world.letters()]

    def audited(self) -> list[tuple[str, str]]:
        """Who did what, of the acts on approvals and of what they do."""
        rows = self.world.run(
            "SELECT actor, action FROM withdrawals.audit WHERE action ~ '^(approval|policies|dead_letter|job.rel)' "
            "ORDER BY id"
        )
        return [(row.actor, row.action) for row in rows]

    def prepare(self, act: str, count: int) -> Any:
        """What an act is about, with so many learners."""
        match act:
            case "release" | "release all":
                return [self.held_job(count), *([self.held_job(count)] if act == "release all" else [])]
            case "lift":
                learner = uuid4().hex
                self.world.enrolment(learner)
                wanted = ProtectionRequest(learner_external_id=learner, kind="legal_hold", reason="case 17")
                return protections.protect(self.db, **self.organisation, wanted=wanted, who=ZOE)
            case "token" | "viewer":
                return f"new {act}"
        return self.letters(count)

    def perform(self, act: str, made: Any) -> Any:
        """Do it as Ada, or ask for it; the answer of a release by filter."""
        ada: dict[str, Any] = {"actor": ADA.name, "made_by": ADA.made_by, "note": "agreed"}
        match act:
            case "release":
                self.release(made[0])
            case "release all":
                wanted = ReleaseFilter(held_because="brake")
                return control.release_matching(self.db, **self.organisation, wanted=wanted, **ada)
            case "lift":
                protections.lift(self.db, **self.organisation, protection_id=made.id, who=ADA, note="over")
            case "token" | "viewer":
                role = "approver" if act == "token" else act
                tokens.create(self.db, **self.organisation, name=made, role=role, **ada)
            case "run":
                how: dict[str, Any] = {"wanted": LetterFilter(), "door": "api", **ada}
                runs.start(self.db, **self.organisation, act="override", **how)
            case _:
                self.resolve(made, remedy=act)
        return None

    def is_done(self, act: str, made: Any) -> bool:
        """Whether it was done."""
        match act:
            case "release" | "release all":
                return {job_state(self.world, job.id) for job in made} == {"queued"}
            case "lift":
                found = protections.show(self.db, **self.organisation, protection_id=made.id)
                return found.state == "lifted" and found.lifted_by == ADA.name
            case "token" | "viewer":
                return bool(self.world.one("SELECT count(*) FROM withdrawals.tokens WHERE name = :name", name=made))
            case "run":
                for _ in range(3):  # it goes, it is decided, it ends
                    self.world.run("UPDATE withdrawals.runs SET stepped_at = stepped_at - interval '1 second'")
                    run_steps.step_all(self.db)
                    decide_due(self.db, self.settings)
        decide_due(self.db, self.settings)
        return all(letter.state == "resolved" for letter in self.world.letters() if letter.id in made)
