"""Who acts, and whether two who act are known to be one person."""

import re
import unicodedata
from dataclasses import dataclass

_KIND = re.compile(r"(token|cli|person):")
_MEMBER = re.compile(r"person:(.*)#(\d+)", re.DOTALL)


def member_actor(name: str, member_id: int) -> str:
    """How records name somebody who signs in with a provider: `person:Ada Lovelace#17`.

    The name is for those who read the record, and changes with the person; the id stays.
    """
    return f"person:{name}#{member_id}"


def shown_name(actor: str) -> str:
    """An actor as pages show them: a person by their name, anybody else as recorded."""
    found = _MEMBER.fullmatch(actor)
    return found[1] if found else actor


_RECORDED = re.compile(r"(?<![\w:./-])(?:token:(?=\w)|person:([^#\n]{1,255})#[0-9]+)")


def with_names(said: str) -> str:
    """A sentence in which who acted stands by name, as in lists, and not as recorded."""
    return _RECORDED.sub(lambda found: found[1] or "", said)


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who decides."""

    name: str
    """As the audit has it: `person:Ada Lovelace#17`, `token:ada`, `cli:ada`, or what `--as` says."""
    made_by: str | None = None
    """Who created the token; None: no token."""

    def is_known_to_be(self, other: "Actor") -> bool:
        """Whether the records tell that both are one person.

        They do when both are one member; when one created the other's token, because whoever creates a token sees it,
        and can act by it; when one member created both tokens; and when both have one name, whatever they came through.
        Only two members may share a name and be two.
        """
        return (
            _are_one(self.name, other.name)
            or (self.made_by is not None and _are_one(self.made_by, other.name))
            or (other.made_by is not None and _are_one(self.name, other.made_by))
            or _are_one_member(self.made_by, other.made_by)
        )

    @property
    def maker(self) -> str:
        """Who counts as the creator of this actor's new token: the member behind their own token, else the actor."""
        return self.made_by if self.made_by is not None and member_id(self.made_by) is not None else self.name

    def is_same_as(self, recorded: str) -> bool:
        """Whether a record names this very actor; a member also by the name of another time."""
        return self.name == recorded or _are_one_member(self.name, recorded)


def _are_one(one: str, other: str) -> bool:
    if member_id(one) is not None and member_id(other) is not None:
        return _are_one_member(one, other)
    return _bare(one) == _bare(other)


def _are_one_member(one: str | None, other: str | None) -> bool:
    """That anybody else created both of two tokens tells nothing: an administrator creates everybody's."""
    member = member_id(one)
    return member is not None and member == member_id(other)


def member_id(actor: str | None) -> int | None:
    """The member as whom an actor is recorded; None: no member."""
    found = _MEMBER.fullmatch(actor) if actor else None
    return int(found[2]) if found else None


def _bare(actor: str) -> str:
    bare = _KIND.sub("", shown_name(actor), count=1)
    return unicodedata.normalize("NFKC", bare).strip().casefold()
