"""``d-back new-plugin``: what it writes, what it makes of a name, and what it refuses."""

import ast
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from docs_pages import blocks

from d_back_core import HOOK_VERSION
from d_back_core.cli import main as cli
from d_back_core.cli.commands import COMMANDS
from d_back_core.providers.entry_points import module_file
from d_back_testing.new_plugin import FILES, MAX_NAME

ROOT = Path(__file__).parents[1]
LONGEST = "x" * MAX_NAME
TOO_LONG = f"{LONGEST}x"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and a git that knows somebody."""
    path = tmp_path / "home"
    path.mkdir()
    (path / ".gitconfig").write_text('[user]\n    name = Ada \\"Countess\\" L\u00f6velace\n')
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(path)
    return path


def new_plugin(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["new-plugin", *arguments])


def written(*arguments: str) -> Path:
    """The folder that it says it has written."""
    done = new_plugin(*arguments)
    assert done.exit_code == 0, done.output
    return Path(done.output.partition(": ")[0])


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# What it writes


def test_it_writes_a_whole_package() -> None:
    """Each file of the skeleton has its place, and there is no other."""
    folder = written("club")
    assert files_in(folder) == {
        ".github/workflows/ci.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "d-back.toml",
        "d_back_club/__init__.py",
        "d_back_club/provider.py",
        "d_back_club/py.typed",
        "pyproject.toml",
        "tests/test_provider.py",
    }
    skeleton = Path(str(module_file("d_back_core"))).parent / "skeleton"
    assert {path.stem for path in skeleton.iterdir()} == set(FILES.values())


def test_nothing_is_left_open() -> None:
    """No word of the skeleton stands for another; only the workflow has expressions."""
    folder = written("club")
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in files_in(folder)}
    assert {name for name, text in texts.items() if "$" in text} == {".github/workflows/ci.yml"}


def test_the_project_is_a_plugin() -> None:
    """Its entry point names the class, its dependency the core that it is made for."""
    project = tomllib.loads((written("club") / "pyproject.toml").read_text())["project"]
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert project["name"] == "d-back-club"
    assert project["entry-points"] == {"d_back.providers": {"club": "d_back_club:Provider"}}
    assert project["dependencies"][0] == f"d-back-core>={core},<2"


def test_its_bounds_are_those_of_our_own_plugins() -> None:
    """R40."""
    ours = tomllib.loads((ROOT / "plugins/d_back_mock/pyproject.toml").read_text())
    project = tomllib.loads((written("club") / "pyproject.toml").read_text())
    assert project["project"]["dependencies"][0] == ours["project"]["dependencies"][0]


def test_it_is_made_for_the_present_hooks() -> None:
    """The number stands in it, so that a later core knows."""
    tree = ast.parse((written("club") / "d_back_club/provider.py").read_text())
    assert f"hook_version = {HOOK_VERSION}" in ast.unparse(tree).replace("    ", "")


def test_the_author_is_whom_git_knows() -> None:
    """In the project and in the license, whatever is in the name."""
    folder = written("club")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["authors"] == [{"name": 'Ada "Countess" L\u00f6velace'}]
    line = f'Copyright (c) {datetime.now(UTC).year} Ada "Countess" L\u00f6velace'
    assert line in (folder / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("there_is", ["no git", "no name"])
def test_without_an_author_they_are_those_of_the_package(
    home: Path, monkeypatch: pytest.MonkeyPatch, there_is: str
) -> None:
    """It asks nothing."""
    if there_is == "no git":
        monkeypatch.setenv("PATH", str(home))
    else:
        (home / ".gitconfig").unlink()
        monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = written("club")
    assert "The authors of d-back-club" in (folder / "LICENSE").read_text()


def test_the_workflow_runs_what_the_readme_says() -> None:
    """It is YAML, and its commands are those that the author uses."""
    folder = written("club")
    jobs = yaml.safe_load((folder / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    readme = (folder / "README.md").read_text()
    assert {"uv run pytest", "uv run ruff check", "uv run mypy ."} <= set(commands)
    for command in commands:
        shown = command.removesuffix(" --check").removesuffix(" --live")
        assert shown in readme, command
    assert jobs["publish"]["needs"] == "test"


@pytest.mark.parametrize("name", ["a", "club", "7tv", f"{LONGEST[:24]}-{LONGEST[:25]}", LONGEST])
def test_it_passes_the_checks_that_it_brings_and_ours(name: str) -> None:
    """Style, formatting and types, however long the name is."""
    folder = written(name)
    tool = [sys.executable, "-m"]
    ours = f"--config={ROOT / 'pyproject.toml'}"
    for command in (
        [*tool, "ruff", "check", "."],
        [*tool, "ruff", "format", "--check", "."],
        [*tool, "ruff", "check", ours, "."],
        [*tool, "ruff", "format", "--check", ours, "."],
        [*tool, "mypy", "--strict", "."],
    ):
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


# What docs/en/writing-a-plugin.md shows


def shown(command: str) -> str:
    """What the page shows below that command."""
    texts = [block.text for block in blocks("writing-a-plugin.md", "text")]
    (text,) = [text for text in texts if text.startswith(f"$ {command}\n")]
    return text.partition("\n")[2]


def test_the_page_shows_what_the_command_prints() -> None:
    """The command with its name and its next steps."""
    assert new_plugin("club").output == shown("uvx --from d-back-core d-back new-plugin club")


def test_the_page_shows_the_files(home: Path) -> None:
    """All of them, and no other."""
    folder = written("club")
    (text,) = [
        block.text
        for block in blocks("writing-a-plugin.md", "text")
        if block.text.startswith("d-back-club/")
    ]
    listed = [word for word in text.split() if (folder / word).is_file()]
    assert {*listed, "d_back_club/__init__.py", "d_back_club/py.typed"} == files_in(folder)
    assert home / folder == folder.absolute()


def test_the_page_shows_how_a_broken_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line for a misspelt hook, of the generated class."""
    folder = written("club").absolute()
    provider = folder / "d_back_club" / "provider.py"
    provider.write_text(provider.read_text().replace("async def users(", "async def user("))
    info = folder / "d_back_club-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: d-back-club\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[d_back.providers]\nclub = d_back_club:Provider\n")
    monkeypatch.syspath_prepend(folder)
    try:
        done = CliRunner().invoke(cli.main, ["--config", str(folder / "d-back.toml")])
    finally:
        for module in [each for each in sys.modules if each.partition(".")[0] == "d_back_club"]:
            del sys.modules[module]
    assert done.output.replace(str(folder), "/home/ada/d-back-club") == shown("uv run d-back")
    assert done.exit_code == 2


# The name


@pytest.mark.parametrize(
    "name", ["my-club", "My_Club", "my.club", "d-back-my-club", "d_back_my_club", "MY-.-CLUB"]
)
def test_a_name_is_normalized(name: str) -> None:
    """As distributions are; the module has underscores."""
    folder = written(name)
    assert folder == Path("d-back-my-club")
    assert (folder / "d_back_my_club" / "provider.py").is_file()
    assert 'order = ["my-club"]' in (folder / "d-back.toml").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "my club",
        "club!",
        "-club",
        "club-",
        "d-back-",
        "kl\u00fcb",
        "a/b",
        "..",
        "x\n",
        f"{LONGEST}x",
    ],
)
def test_what_cannot_be_a_name_is_refused(home: Path, name: str) -> None:
    """Before anything is written."""
    done = new_plugin("--", name)
    shown = name.replace("\n", "\\n")
    assert done.output == (
        f"Error: new-plugin '{shown}': is no name (letters and digits, with single -, _ or . "
        f"between, {MAX_NAME} at most)\n"
    )
    assert done.exit_code == 2
    assert files_in(home) == {".gitconfig"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Check", "there is a command 'd-back check', so call it otherwise"),
        ("d-back-core", "is a name of d-back itself, so call it otherwise"),
        ("callbacks", "is a name of d-back itself, so call it otherwise"),
        ("mock", "d-back-mock {mock} brings a plugin of that name, so call it otherwise"),
    ],
)
def test_a_name_that_is_taken_is_refused(name: str, sentence: str) -> None:
    """It would be hidden, or would hide."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = new_plugin(name)
    assert done.output == f"Error: new-plugin '{name}': {sentence.format(mock=version)}\n"
    assert done.exit_code == 2


def test_no_command_of_ours_is_a_name() -> None:
    """Whichever are added."""
    for command in COMMANDS:
        assert new_plugin(command).exit_code == 2, command


# The folder


def test_it_writes_where_it_is_told(tmp_path: Path) -> None:
    """Folders on the way are made."""
    folder = tmp_path / "some" / "where"
    assert written("club", "--dir", str(folder)) == folder
    assert (folder / "d_back_club" / "provider.py").is_file()


def test_a_new_repository_counts_as_empty(tmp_path: Path) -> None:
    """One that was made first, and has nothing in it."""
    folder = tmp_path / "repository"
    command = [str(shutil.which("git")), "init", "-q", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603
    assert written("club", "--dir", str(folder)) == folder


@pytest.mark.parametrize("there", ["README.md", "notes/plan.txt"])
def test_nothing_is_overwritten(home: Path, there: str) -> None:
    """Nor is anything written beside what is there."""
    path = home / "d-back-club" / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    done = new_plugin("club")
    first = Path(there).parts[0]
    assert done.output == (
        f"Error: new-plugin: 'd-back-club' is there already, with '{first}' in it: choose another "
        "folder with --dir\n"
    )
    assert done.exit_code == 2
    assert path.read_text() == "mine"
    assert files_in(home / "d-back-club") == {there}


def test_a_file_is_no_folder(home: Path) -> None:
    """It is not replaced by one."""
    (home / "d-back-club").write_text("mine")
    assert new_plugin("club").exit_code == 2
    assert (home / "d-back-club").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told(home: Path) -> None:
    """In one line, with exit status 1."""
    (home / "file").write_text("")
    done = new_plugin("club", "--dir", "file/club")
    assert done.output == "Error: NotADirectoryError: [Errno 20] Not a directory: 'file/club'\n"
    assert done.exit_code == 1
