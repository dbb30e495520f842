"""A release: one version for all packages, and the changelog's section as its notes.

    python -m tools.release set 1.2.0      # write the version where it stands
    python -m tools.release check          # fail if a package has another version
    python -m tools.release tag            # fail if this is not the commit of the version's tag
    python -m tools.release notes          # print the notes

`set` writes it into every ``pyproject.toml`` and the site of the documentation, and as the lower
bound wherever one of our packages requires another: they are tested together, so they are
installed together. It also moves what the changelog has below "Unreleased" below the version. Run
``uv lock`` after it.
"""

import argparse
import itertools
import re
import subprocess
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PUBLISHED = ("pyproject.toml", "plugins/*/pyproject.toml", "compat/*/pyproject.toml")
FINAL = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?(?:\.dev\d+)?")
UNRELEASED = "## [Unreleased]\n"
SITE = ("zensical.toml", "zensical.de.toml")
"""The sites of the documentation, which name the version below each page."""
SECTION = re.compile(r"^## \[([^]]+)\].*\n", re.MULTILINE)


def projects(root: Path = ROOT) -> dict[Path, dict[str, Any]]:
    """Return the path of each published package's ``pyproject.toml``, and its content."""
    paths = [path for pattern in PUBLISHED for path in sorted(root.glob(pattern))]
    return {path: tomllib.loads(path.read_text(encoding="utf-8")) for path in paths}


def problems(root: Path = ROOT) -> list[str]:
    """Return where a version, or a bound between two packages, differs from the core's."""
    found = projects(root)
    names = {project["project"]["name"] for project in found.values()}
    version = core_version(root)
    wanted = f">={version},<{_next_major(version)}"
    wrong = []
    for path, content in found.items():
        project, where = content["project"], path.relative_to(root)
        if project["version"] != version:
            wrong.append(f"{where}: version '{project['version']}' (expected '{version}')")
        extras = project.get("optional-dependencies", {})
        for requirement in itertools.chain(project.get("dependencies", ()), *extras.values()):
            found_name = re.match(r"[\w.-]+(?:\[\w+\])?", requirement)
            if found_name is None:
                continue
            name, bounds = found_name[0].partition("[")[0], requirement[found_name.end() :]
            if name in names - {project["name"]} and bounds != wanted:
                wrong.append(f"{where}: '{requirement}' (expected '{name}{wanted}')")
    for site in SITE:
        text = (root / site).read_text(encoding="utf-8")
        shown = tomllib.loads(text)["project"]["extra"]["release"]
        if shown != version:
            wrong.append(f"{site}: release '{shown}' (expected '{version}')")
    return wrong


def set_version(version: str, root: Path = ROOT) -> None:
    """Write the version; raises ValueError if it is not one, or nothing is to be released."""
    if not FINAL.fullmatch(version):
        raise ValueError(f"'{version}': expected a version, such as 1.2.0 or 1.2.0rc1")
    changelog = root / "CHANGELOG.md"
    if ".dev" not in version:
        text = changelog.read_text(encoding="utf-8")
        if not notes("Unreleased", text):
            raise ValueError("CHANGELOG.md: nothing stands below 'Unreleased'")
        dated = f"{UNRELEASED}\n## [{version}] - {datetime.now(UTC).date()}\n"
        changelog.write_text(text.replace(UNRELEASED, dated, 1), encoding="utf-8")
    found = projects(root)
    names = "|".join(re.escape(project["project"]["name"]) for project in found.values())
    bound = rf"\g<1>>={version},<{_next_major(version)}\g<2>"
    for path in found:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r'^(version = )".*"$', rf'\1"{version}"', text, count=1, flags=re.MULTILINE)
        text = re.sub(rf'("(?:{names})(?:\[\w+\])?)>=[^",]+,<\d+(")', bound, text)
        path.write_text(text, encoding="utf-8")
    for site in SITE:
        text = (root / site).read_text(encoding="utf-8")
        text = re.sub(r'^(release = )".*"$', rf'\1"{version}"', text, flags=re.MULTILINE)
        (root / site).write_text(text, encoding="utf-8")


def notes(version: str, changelog: str) -> str:
    """Return what the changelog says about the version; raises ValueError if it has no section."""
    parts = SECTION.split(changelog)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    if version not in sections:
        raise ValueError(f"CHANGELOG.md: has no section [{version}]")
    return sections[version].strip()


def untagged(root: Path = ROOT) -> str:
    """Return why the tree is not that of the version's tag; empty if it is."""
    version = core_version(root)
    if ".dev" in version:
        return f"{version} is a version of development"
    if _git(root, "status", "--porcelain", "--untracked-files=no"):
        return "there are changes that are not committed"
    if f"v{version}" not in _git(root, "tag", "--points-at", "HEAD").split():
        return f"the commit does not have the tag v{version}"
    return ""


def core_version(root: Path = ROOT) -> str:
    """Return the version of the core, which is that of all packages."""
    return str(projects(root)[root / "pyproject.toml"]["project"]["version"])


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout


def _next_major(version: str) -> int:
    return int(version.partition(".")[0]) + 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m tools.release")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("set").add_argument("version")
    for name in ("check", "tag", "notes"):
        commands.add_parser(name)
    given = parser.parse_args(arguments)
    wrong: list[str] = []
    try:
        match given.command:
            case "set":
                set_version(given.version)
            case "check":
                wrong = problems()
            case "tag":
                wrong = [reason] if (reason := untagged()) else []
            case "notes":
                changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
                version = core_version()
                section = "Unreleased" if ".dev" in version else version
                print(notes(section, changelog))  # noqa: T201  its output
    except ValueError as error:
        wrong = [str(error)]
    if wrong:
        raise SystemExit("\n".join(f"Error: {each}" for each in wrong))


if __name__ == "__main__":
    main()
