"""Print the lowest versions that pyproject.toml allows, one `name==version` a line: constraints for `make test-floors`.

What is named nowhere but there (the dependencies of dependencies) is left to pip.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What the tests import: a floor of the linters, or of a peer of a benchmark, would be no claim of ours.
GROUPS = ("test",)


def floors(pyproject: Path) -> dict[str, str]:
    """Return the lowest allowed version by package name.

    Raises ValueError where a requirement has no floor, or two where the same package is required twice.
    """
    table = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = table["project"]
    lines = list(project["dependencies"])
    lines += [line for extra in project["optional-dependencies"].values() for line in extra]
    lines += [line for group in GROUPS for line in table["dependency-groups"][group]]
    lowest: dict[str, str] = {}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        found = {part.version for part in requirement.specifier if part.operator in (">=", "==")}
        found |= {lowest[name]} if name in lowest else set()
        if len(found) != 1:
            raise ValueError(f"{name} needs one lowest version in pyproject.toml; it has {sorted(found) or 'none'}")
        lowest[name] = found.pop()
    return lowest


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "pyproject.toml")
    print("\n".join(f"{name}=={version}" for name, version in sorted(floors(where).items())))
