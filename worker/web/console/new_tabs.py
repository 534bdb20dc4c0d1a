"""Links on a page that answers a form: they open in a new tab, and say so.

Such a page is gone once somebody leaves it: going back asks whether to send the form again, and what was typed is
lost. Where what was sent can stand in an address, it does: so it is with plans. What leads away from the other pages
leaves them open (WCAG 2.2, techniques G200 and G201). What is a way on or out stays in the tab: the menu, a link
with the look of a button, and one that has a `target` of its own.
"""

import re

from markupsafe import Markup, escape

from worker.texts import text

SAID = text("opens in a new tab")
_PART = re.compile(r"<nav\b.*?</nav>|<a\s(?P<attributes>[^>]*)>(?P<shown>.*?)</a>", re.DOTALL)
_ATTRIBUTE = re.compile(r'([\w-]+)(?:="([^"]*)")?')


def open_beside(page: str, said: str) -> Markup:
    """A part of a page whose links lead away from it in a new tab. `said`: `SAID` in the page's language."""
    note = escape(f" ({said})")

    def change(found: re.Match[str]) -> str:
        attributes = dict(_ATTRIBUTE.findall(found["attributes"] or ""))
        if not _leads_away(attributes):
            return found[0]
        shown, given = found["shown"], found["attributes"]
        if label := attributes.get("aria-label"):  # screen readers say it in place of what is shown
            given = given.replace(f'aria-label="{label}"', f'aria-label="{label}{note}"')
        else:
            shown += f'<span class="visually-hidden">{note}</span>'
        return f'<a {given} target="_blank" rel="noopener">{shown}</a>'

    return Markup(_PART.sub(change, page))  # noqa: S704 - the page is escaped already, and so is what is added


def _leads_away(attributes: dict[str, str]) -> bool:
    href = attributes.get("href", "#")
    is_way_on = "target" in attributes or "button" in attributes.get("class", "").split()
    return not (href.startswith("#") or is_way_on or "download" in attributes)
