"""What a person is told of their mistake can be said in every language that pages have."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import worker

ROOT = Path(worker.__file__).parent
PLAIN = (
    # of the configuration: told to whoever starts a process
    *("config.py", "database.py", "database_urls.py", "session_settings.py", "sign_on_settings.py", "variables.py"),
    *("access/sealing.py", "queue/rabbitmq.py", "queue/redis_clients.py", "telemetry"),
    # of the command line and the API alone
    *(
        "people/erasure.py",
        "people/rosters.py",
        "people/roster_file.py",
        "people/roster_pull.py",
        "people/scim_users.py",
    ),
    *("reports/attestations.py", "reports/audit_files.py", "reports/books.py"),
    # kept with a lookup, for logs and letters
    *("people/hr_records", "queue/lookups.py"),
    # pages have their own way, the API is English
    "web",
)
"""Modules whose errors no page shows."""
SETTINGS = {"SettingsError", "SessionError"}
"""Errors of the configuration, wherever they are raised."""


def test_an_error_that_pages_show_remembers_its_template() -> None:
    """A sentence that was put together with an f-string is English for ever."""
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.rglob("*.py"))}
    files = {name: ast.parse(source) for name, source in sources.items() if "Error" in source}
    user_errors = _user_errors(files.values())
    assert {"InvalidInputError", "BrakeError", "SignInRefusedError", "NothingNewError"} <= user_errors
    shown = {name: tree for name, tree in files.items() if not name.startswith(PLAIN)}
    plain = [f"{name}:{line}" for name, tree in shown.items() for line in _plain_errors(tree, user_errors)]
    assert plain == []
    assert not [name for name in PLAIN if not any(file.startswith(name) for file in sources)], "no such module"


def _user_errors(trees: Iterable[ast.Module]) -> set[str]:
    """The names of `WithdrawalsError` and of all classes below it, without those of the configuration."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        | {base.attr for base in node.bases if isinstance(base, ast.Attribute)}
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    found = {"WithdrawalsError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found - SETTINGS


def _plain_errors(tree: ast.Module, user_errors: set[str]) -> Iterator[int]:
    """The lines where a user error is made from a string that has no template."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        is_super = (
            name == "__init__" and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "super()"
        )
        if (name in user_errors or is_super) and _is_plain(node.args[0]):
            yield node.lineno


def _is_plain(given: ast.expr) -> bool:
    """Whether it is a string that was written or put together here."""
    match given:
        case ast.JoinedStr() | ast.BinOp():
            return True
        case ast.Constant(value=str()):
            return True
        case ast.Call(func=ast.Attribute(attr="join" | "format" | "replace" | "capitalize")):
            return True
    return False
