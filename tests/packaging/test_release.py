"""What is published: the metadata of every package, one version, and the notes of a release."""

import re
import shutil
import subprocess
from importlib.metadata import metadata
from pathlib import Path

import pytest
from docs_pages import ROOT

from tools import release

PROJECTS = {project["project"]["name"]: project for project in release.projects().values()}
URLS = {"Documentation", "Source", "Changelog", "Issues"}
RELATIVE = re.compile(r"""\]\((?!https?:|\#)[^)]+\)|(?:src|srcset|href)=["'](?!https?:)[^"']+""")
CHANGELOG = """\
# Changelog

## [Unreleased]

### Added

- A thing.

## [0.9.0] - 2026-01-01

- Another one.
"""


@pytest.mark.parametrize("name", PROJECTS)
def test_links_on_pypi_are_absolute(name: str) -> None:
    """The description of the installed package has no link or picture of the repository."""
    description = metadata(name)["Description"]
    assert description.startswith("# ")
    assert RELATIVE.findall(description) == []


def test_pictures_on_pypi_are_those_of_the_release() -> None:
    """They lead to the files of the version's tag, and so do links to pages."""
    told = metadata("d-back-core")
    description, version = told["Description"], told["Version"]
    repository = "d-zone-org/d-back"
    assert f'src="https://raw.githubusercontent.com/{repository}/v{version}/docs/' in description
    assert f"](https://github.com/{repository}/blob/v{version}/docs/en/" in description


@pytest.mark.parametrize("name", PROJECTS)
def test_metadata_says_where_everything_is(name: str) -> None:
    """Each package has the same project URLs, a licence, and the Pythons of the core."""
    project = PROJECTS[name]["project"]
    assert project["urls"].keys() == URLS
    assert all(url.startswith("https://") for url in project["urls"].values())
    assert re.fullmatch(r"MIT( AND OFL-1\.1)?", project["license"])
    assert project["license-files"][0] == "LICENSE"
    assert pythons(name) == pythons("d-back-core")
    assert project["requires-python"] == f">={pythons(name)[0]}"


def pythons(name: str) -> list[str]:
    """The versions in the classifiers of a package."""
    classifiers = "\n".join(PROJECTS[name]["project"]["classifiers"])
    return re.findall(r"^Programming Language :: Python :: (\d\.\d+)$", classifiers, re.MULTILINE)


def test_classifiers_are_the_pythons_of_ci() -> None:
    """`.ci/run` tests on each of them, and on no other one."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    run = set(re.findall(r"\b3\.\d+\b", re.sub(r"^\s*#.*", "", script, flags=re.MULTILINE)))
    assert run == set(pythons("d-back-core"))


# The version


def test_all_packages_have_one_version() -> None:
    """Each one has the core's, and requires the others in it."""
    assert release.problems() == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of every file that has the version, beside a changelog."""
    for path in (*release.projects(), *(ROOT / site for site in release.SITE)):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        (
            "plugins/d_back_mock/pyproject.toml",
            'version = "1.',
            'version = "1.7',
            "plugins/d_back_mock/pyproject.toml: version '1.7",
        ),
        (
            "plugins/d_back_sqlite/pyproject.toml",
            '"d-back-tables>=1',
            '"d-back-tables>=0',
            "plugins/d_back_sqlite/pyproject.toml: 'd-back-tables>=0",
        ),
        (
            "pyproject.toml",
            '"d-back-page>=1',
            '"d-back-page>=0',
            "pyproject.toml: 'd-back-page>=0",
        ),
        (
            "zensical.de.toml",
            'release = "1.',
            'release = "1.7',
            "zensical.de.toml: release '1.7",
        ),
    ],
)
def test_a_package_out_of_step_is_reported(
    tree: Path, file: str, before: str, after: str, problem: str
) -> None:
    """With its file, the value, and the expected one."""
    path = tree / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    (reported,) = release.problems(tree)
    assert reported.startswith(problem)
    assert "(expected '" in reported


def test_a_version_is_set_everywhere(tree: Path) -> None:
    """In the versions, in the bounds and in the changelog."""
    release.set_version("2.3.0", tree)
    assert release.problems(tree) == []
    assert release.core_version(tree) == "2.3.0"
    sqlite = (tree / "plugins/d_back_sqlite/pyproject.toml").read_text()
    assert '"d-back-core>=2.3.0,<3"' in sqlite
    changelog = (tree / "CHANGELOG.md").read_text()
    assert release.notes("2.3.0", changelog) == "### Added\n\n- A thing."
    assert release.notes("Unreleased", changelog) == ""


def test_a_version_of_development_leaves_the_changelog(tree: Path) -> None:
    """Only what is released has a section."""
    release.set_version("2.3.0.dev0", tree)
    assert release.problems(tree) == []
    assert (tree / "CHANGELOG.md").read_text() == CHANGELOG


@pytest.mark.parametrize("version", ["2.3", "v2.3.0", "two"])
def test_what_is_not_a_version_is_refused(tree: Path, version: str) -> None:
    """Nothing is written."""
    with pytest.raises(ValueError, match=f"'{version}': expected a version"):
        release.set_version(version, tree)
    assert release.core_version(tree) == release.core_version()


def test_a_release_needs_notes(tree: Path) -> None:
    """Without a change below "Unreleased" there is nothing to release."""
    release.set_version("2.3.0", tree)
    with pytest.raises(ValueError, match="nothing stands below 'Unreleased'"):
        release.set_version("2.4.0", tree)


def test_notes_are_those_of_one_version() -> None:
    """They end at the next version; an unknown one is an error."""
    assert release.notes("0.9.0", CHANGELOG) == "- Another one."
    assert release.notes("Unreleased", CHANGELOG) == "### Added\n\n- A thing."
    with pytest.raises(ValueError, match=r"has no section \[1\.0\.0\]"):
        release.notes("1.0.0", CHANGELOG)


def test_only_the_commit_of_the_tag_is_published(tree: Path) -> None:
    """Neither a version of development, nor an uncommitted change, nor another commit."""

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        command = ["git", *who, "-C", str(tree), *arguments]
        subprocess.run(command, check=True)  # noqa: S603  our own commands

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "First")
    assert "version of development" in release.untagged(tree)
    release.set_version("2.3.0", tree)
    assert "not committed" in release.untagged(tree)
    git("commit", "--quiet", "--all", "--message", "Release")
    assert "does not have the tag v2.3.0" in release.untagged(tree)
    git("tag", "v2.3.0")
    assert release.untagged(tree) == ""
    git("commit", "--quiet", "--allow-empty", "--message", "Next")
    assert "does not have the tag v2.3.0" in release.untagged(tree)
