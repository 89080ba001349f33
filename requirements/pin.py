"""Write the versions of an environment that passes the tests into requirements/tested.txt.

    .venv-newest/bin/python requirements/pin.py           (make pins)

Everything that semcore needs with all its extras is pinned, what comes along with it included, but nothing else of
the environment. Left out is what torch pins by itself, which is CUDA's and differs from build to build; torch keeps the
version that the file has, so that nobody gets a new build of several GB by the way: `--torch 2.14.1` changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from semcore.commands.arguments import run_command
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_bytes
from semcore.runtime.tested_versions import read_versions

PATH = Path(__file__).with_name("tested.txt")
HEAD = """\
# The versions that the tests have passed with, of everything semcore needs with all its extras.
# `make` installs from this file; others: pip install -r requirements/tested.txt, or -c to take what is needed only.
# Written by `make pins`; torch stands without the name of its build, so that those for CPU and for CUDA both fit.
"""


@dataclass
class Settings:
    torch: str | None = None
    """Another version of torch than the file has."""


def main(settings: Settings) -> None:
    """Write the file, and say what has changed."""
    before = read_versions(PATH)
    now = dict(sorted(installed_versions("semcore", {"all"}).items()))
    now["torch"] = settings.torch or before.get("torch", now["torch"])
    write_bytes(PATH, (HEAD + "".join(f"{name}=={version}\n" for name, version in now.items())).encode())
    changed = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    for name in sorted(changed):
        print(f"{name}: {before.get(name, 'new')} -> {now.get(name, 'no longer needed')}")
    print(f"{PATH}: {len(now)} versions, {len(changed)} changed; next: make test")


def installed_versions(package: str, extras: set[str]) -> dict[str, str]:
    """Return name -> version of all that a package needs here, directly and indirectly.

    Raises:
        UserError: something that is needed is not installed.
    """
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(package, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        for need in needs(name, extra):
            own = canonicalize_name(need.name)
            if own != package:
                versions[own] = version_of(own)
            waiting += [entry for entry in ((own, wanted) for wanted in ("", *need.extras)) if entry not in seen]
            seen.update((own, wanted) for wanted in ("", *need.extras))
    return versions


def needs(name: str, extra: str) -> Iterator[Requirement]:
    """Yield what a package, or one of its extras, asks for on this machine."""
    for line in distribution(name).requires or []:
        need = Requirement(line)
        asked = need.marker is None or need.marker.evaluate({"extra": extra})
        if asked and not (name == "torch" and str(need.specifier).startswith("==")):
            yield need


def version_of(name: str) -> str:
    """Return an installed version without the name of its build."""
    try:
        return Version(distribution(name).version).public
    except PackageNotFoundError:
        raise UserError(f"{name} is needed but not installed; pip install -e '.[all]' gets it") from None


if __name__ == "__main__":
    run_command(main, Settings)
