"""A hook of MkDocs: pages of the repository become pages of the site, and stay where they are.

They keep their places below `repository/`, so that links between them hold. A link to what is no page, such as a file
of the code, becomes plain text: the site does not know where the repository is published.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PLACE = "repository"
PATTERNS = ("*.md", "ops/*.md", "ops/pictures/*.png", "ops/deploy/*.md", "ops/decisions/*.md")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_NOT_RUN = re.compile(r' data-not-run="[^"]*"')
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """Give the pages that are written elsewhere their places in the navigation."""
    config.nav.append({"Decisions": _listed("ops/decisions/*.md")})
    _add(config, "Operations", "Under a DBA's rules", "ops/database-rights.md")
    _add(config, "Operations", "Views over the platform's tables", "ops/platform-views.md")
    _add(config, "Operations", "Alerts", "ops/runbook.md")
    _add(config, "Reference", "Metrics", "ops/metrics.md")
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository."""
    for path in _included():
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, f"{PLACE}/{name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to where their pages are on the site."""
    source = page.file.src_uri
    inside = source.startswith(f"{PLACE}/")
    where = source.removeprefix(f"{PLACE}/") if inside else f"docs/{source}"
    known = {file.src_uri for file in files}
    parts = _FENCED.split(markdown)  # text and blocks of code take turns
    parts[::2] = [_LINK.sub(lambda found: _rewrite(found, where, source, known), text) for text in parts[::2]]
    parts[1::2] = [_NOT_RUN.sub("", block, count=1) for block in parts[1::2]]  # readers need not know
    return "".join(parts)


def _rewrite(found: re.Match[str], where: str, source: str, known: set[str]) -> str:
    path = found["path"]
    if "://" in path or path.startswith(("mailto:", "/")):
        return found[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(where), path))
    uri = target.removeprefix("docs/") if target.startswith("docs/") else f"{PLACE}/{target}"
    if uri in known:
        relative = posixpath.relpath(uri, posixpath.dirname(source) or ".")
        return f"{found['image']}[{found['text']}]({relative}{found['anchor'] or ''})"
    if (ROOT / target).exists():
        return _folder(uri, known, source, found) or found["text"]
    return found[0]  # MkDocs names the link, and fails


def _folder(uri: str, known: set[str], source: str, found: re.Match[str]) -> str | None:
    """A link to a folder leads to its README, if that is a page."""
    index = f"{uri}/README.md"
    if index not in known:
        return None
    return f"[{found['text']}]({posixpath.relpath(index, posixpath.dirname(source) or '.')})"


def _included() -> list[Path]:
    return [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]


def _add(config: Any, section: str, title: str, path: str) -> None:
    """Put a page at the end of a section of the navigation, if the repository has it."""
    if (ROOT / path).exists():
        pages = next(entry[section] for entry in config.nav if section in entry)
        pages.append({title: f"{PLACE}/{path}"})


def _listed(pattern: str) -> list[str]:
    return [f"{PLACE}/{path.relative_to(ROOT).as_posix()}" for path in sorted(ROOT.glob(pattern))]
