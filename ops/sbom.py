"""`python -m ops.sbom FOLDER`: write what a server installs, as CycloneDX 1.6, and the licences as a table.

The list is the lock, requirements/production.txt, with its versions and for every platform. The licences are those that
the installed packages state; a package for another platform is not installed here, so its licence is not known.
"""

import json
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

LOCK = Path(__file__).resolve().parents[1] / "requirements" / "production.txt"
_PIN = re.compile(r"^([\w.-]+)==([^ ;\\]+)", re.MULTILINE)
_CLASSIFIER = "License :: "
_UNKNOWN = "not known"
_LONGEST_NAME = 60  # characters; some packages put the whole text into the field


@dataclass(frozen=True, slots=True)
class Component:
    """One distribution. `licence` is an SPDX expression if `is_expression`, else what the package calls it."""

    name: str
    version: str
    licence: str
    is_expression: bool

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"

    def document(self, kind: str) -> dict[str, Any]:
        """The component in CycloneDX."""
        found = {"type": kind, "bom-ref": self.purl, "name": self.name, "version": self.version, "purl": self.purl}
        if self.is_expression:
            return found | {"licenses": [{"expression": self.licence}]}
        return found | ({} if self.licence == _UNKNOWN else {"licenses": [{"license": {"name": self.licence}}]})


def components() -> list[Component]:
    """Everything that the lock pins for production, by name."""
    pinned = _PIN.findall(LOCK.read_text(encoding="utf-8"))
    return [_component(name, version) for name, version in sorted(set(pinned))]


def bill(service: Component, parts: list[Component]) -> dict[str, Any]:
    """The bill of materials of the service. Equal parts give an equal document."""
    named = ",".join([service.purl, *(part.purl for part in parts)])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, named)}",
        "version": 1,
        "metadata": {"component": service.document("application")},
        "components": [part.document("library") for part in parts],
        "dependencies": [{"ref": service.purl, "dependsOn": sorted({part.purl for part in parts})}],
    }


def licences(parts: list[Component]) -> str:
    """A table in Markdown."""
    rows = [f"| {part.name} | {part.version} | {part.licence} |" for part in parts]
    head = ["# Licences of what a server installs", "", "| package | version | licence |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"


def main(folder: Path) -> None:
    """Write both files."""
    service = _component("withdrawals", metadata.version("withdrawals"))
    parts = components()
    text = json.dumps(bill(service, parts), indent=2) + "\n"
    (folder / f"withdrawals-{service.version}.cdx.json").write_text(text, encoding="utf-8")
    (folder / f"withdrawals-{service.version}-licences.md").write_text(licences(parts), encoding="utf-8")


def _component(name: str, version: str) -> Component:
    try:
        stated = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return Component(name, version, _UNKNOWN, is_expression=False)
    if "License-Expression" in stated:
        return Component(name, version, stated["License-Expression"], is_expression=True)
    classifiers = [text.rpartition(" :: ")[2] for text in stated.get_all("Classifier") or () if _CLASSIFIER in text]
    first = stated["License"].strip() if "License" in stated else ""
    named = first if 0 < len(first) <= _LONGEST_NAME and "\n" not in first else " and ".join(classifiers)
    return Component(name, version, named or _UNKNOWN, is_expression=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
