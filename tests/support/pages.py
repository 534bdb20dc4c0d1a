"""The command blocks of the documentation: which are to be run, and which say why they are not."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^( *)```(?:bash|sh|console)\b([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^\$ ", re.MULTILINE)
_REASON = re.compile(r'data-not-run="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands. `reason`: why it cannot be run; None: it is run."""

    line: int
    commands: str
    reason: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Every block of commands of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        reason = _REASON.search(found[2])
        commands = _PROMPT.sub("", textwrap.dedent(found[3]))
        yield Block(text[: found.start()].count("\n") + 1, commands, reason[1] if reason else None)
