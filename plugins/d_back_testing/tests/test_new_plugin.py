"""``d-back new-plugin``: the generated package, the name, and errors."""

import ast
import os
import re
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

import d_back_testing
from d_back_core import HOOK_VERSION
from d_back_core.cli import main as cli
from d_back_core.cli.commands import COMMANDS
from d_back_core.config import parse
from d_back_testing.new_plugin import FILES, FILES_OF_SHAPE, MAX_NAME, SHAPES

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
LONGEST = "x" * MAX_NAME
TOO_LONG = f"{LONGEST}x"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and a configuration of git with a name."""
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
    """Run the command, and return the folder that it prints."""
    done = new_plugin(*arguments)
    assert done.exit_code == 0, done.output
    return Path(done.output.partition(": ")[0])


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# The package


@pytest.mark.parametrize("shape", SHAPES)
def test_it_writes_a_whole_package(shape: str) -> None:
    """Each template of the skeleton becomes one file, and there is no other file."""
    folder = written("club", "--shape", shape)
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
    skeleton = Path(d_back_testing.__file__).parent / "skeleton"
    assert {path.stem for path in skeleton.iterdir()} == {*FILES.values(), *SHAPES}
    of_shape = {path.stem for path in (skeleton / shape).iterdir()}
    assert of_shape == {*FILES_OF_SHAPE.values(), "usage.md"}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_placeholder_is_left(shape: str) -> None:
    """Only the workflow, which has expressions, contains a dollar sign."""
    folder = written("club", "--shape", shape)
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in files_in(folder)}
    assert {name for name, text in texts.items() if "$" in text} == {".github/workflows/ci.yml"}


def test_the_project_declares_the_plugin() -> None:
    """The entry point names the class, and the dependencies have the bounds of this version."""
    text = tomllib.loads((written("club") / "pyproject.toml").read_text())
    project = text["project"]
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert project["name"] == "d-back-club"
    assert project["entry-points"] == {"d_back.providers": {"club": "d_back_club:Provider"}}
    assert project["dependencies"][0] == f"d-back-core>={core},<2"
    assert f"d-back-testing>={core},<2" in text["dependency-groups"]["dev"]


def test_r40_its_bounds_are_those_of_our_plugins() -> None:
    """R40: it depends on d-back-core as d-back-mock does."""
    ours = tomllib.loads((ROOT / "plugins/d_back_mock/pyproject.toml").read_text())
    project = tomllib.loads((written("club") / "pyproject.toml").read_text())
    assert project["project"]["dependencies"][0] == ours["project"]["dependencies"][0]


def test_it_declares_the_hook_version() -> None:
    """The generated class has the `hook_version` of this core."""
    tree = ast.parse((written("club") / "d_back_club/provider.py").read_text())
    assert f"hook_version = {HOOK_VERSION}" in ast.unparse(tree).replace("    ", "")


def test_the_author_comes_from_git() -> None:
    """The project and the license have the name of git, with any characters."""
    folder = written("club")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["authors"] == [{"name": 'Ada "Countess" L\u00f6velace'}]
    line = f'Copyright (c) {datetime.now(UTC).year} Ada "Countess" L\u00f6velace'
    assert line in (folder / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("there_is", ["no git", "no name"])
def test_an_unknown_author(home: Path, monkeypatch: pytest.MonkeyPatch, there_is: str) -> None:
    """Without git, or without a name in git, the authors are those of the package."""
    if there_is == "no git":
        monkeypatch.setenv("PATH", str(home))
    else:
        (home / ".gitconfig").unlink()
        monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = written("club")
    assert "The authors of d-back-club" in (folder / "LICENSE").read_text()


def test_the_workflow_runs_the_commands_of_the_readme() -> None:
    """The workflow is YAML, and the README shows each of its commands."""
    folder = written("club")
    jobs = yaml.safe_load((folder / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    readme = (folder / "README.md").read_text()
    assert {"uv run pytest", "uv run ruff check", "uv run mypy ."} <= set(commands)
    for command in commands:
        shown = command.removesuffix(" --check").removesuffix(" --live")
        assert shown in readme, command
    assert jobs["publish"]["needs"] == "test"


def run(folder: Path, *command: str) -> str:
    """What a Python tool prints in that folder, which it can import from; it must succeed."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder.absolute())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["a", "7tv", f"{LONGEST[:24]}-{LONGEST[:25]}", LONGEST])
def test_its_style_is_correct(name: str, shape: str) -> None:
    """Style and formatting are its own and ours, for short and long names."""
    folder = written(name, "--shape", shape)
    for options in ((), (f"--config={ROOT / 'pyproject.toml'}",)):
        run(folder, "ruff", "check", *options, ".")
        run(folder, "ruff", "format", "--check", *options, ".")


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_the_types_of_each_shape_are_correct(shape: str) -> None:
    """Its own `mypy .`, which is strict, has nothing to say."""
    run(written("club", "--shape", shape), "mypy", ".")


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_passes_its_own_tests(shape: str) -> None:
    """Its tests pass, and the contract is among them."""
    folder = written("club", "--shape", shape)
    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert " passed" in done
    assert "failed" not in done


@pytest.mark.parametrize("shape", SHAPES)
def test_the_readme_has_the_keys(shape: str) -> None:
    """All keys of the provider are in the table of the README, and no other."""
    folder = written("club", "--shape", shape)
    readme = (folder / "README.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)
    tree = ast.parse((folder / "d_back_club/provider.py").read_text())
    (options,) = (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Options"
    )
    keys = [
        str(ast.unparse(node.target)) for node in options.body if isinstance(node, ast.AnnAssign)
    ]
    assert sorted(listed) == sorted(keys)
    for block in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL):
        parse(tomllib.loads(block))


def test_pip_without_groups_is_enough() -> None:
    """The README installs the tools by their names: the pip of Python 3.11 knows no groups."""
    folder = written("club")
    group = tomllib.loads((folder / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    tools = [re.match(r"[\w-]+", each) for each in group]
    names = " ".join(found[0] for found in tools if found is not None)
    readme = (folder / "README.md").read_text()
    assert f"    pip install --editable . {names}\n" in readme
    assert "--group" not in readme


@pytest.mark.parametrize("shape", SHAPES)
def test_its_links_lead_to_the_documentation(shape: str) -> None:
    """Whatever it links in our repository is a page, and not the source of the core."""
    folder = written("club", "--shape", shape)
    texts = [path.read_text() for path in folder.rglob("*.*") if path.suffix in {".md", ".py"}]
    linked = re.findall(r"d-zone-org/d-back/blob/main/([\w/.-]+\w)", "".join(texts))
    assert "docs/en/hooks.md" in linked
    for path in linked:
        assert path.startswith("docs/en/")
        assert (ROOT / path).is_file(), path


def test_an_unknown_shape_is_refused() -> None:
    """The error names those that there are."""
    done = new_plugin("club", "--shape", "round")
    assert done.exit_code == 2
    assert "'polled', 'streaming', 'push'" in done.output


# docs/en/writing-a-plugin.md


def shown(command: str) -> str:
    """Return the output that the page shows below that command."""
    texts = [block.text for block in blocks("writing-a-plugin.md", "text")]
    (text,) = [text for text in texts if text.startswith(f"$ {command}\n")]
    return text.partition("\n")[2]


def test_the_page_shows_what_the_command_prints() -> None:
    """The page has the folder and the next steps as they are printed."""
    command = "uvx --from d-back-core --with d-back-testing d-back new-plugin club"
    assert new_plugin("club").output == shown(command)


def test_the_page_shows_the_files(home: Path) -> None:
    """The page lists all generated files."""
    folder = written("club")
    (text,) = [
        block.text
        for block in blocks("writing-a-plugin.md", "text")
        if block.text.startswith("d-back-club/")
    ]
    listed = [word for word in text.split() if (folder / word).is_file()]
    assert {*listed, "d_back_club/__init__.py", "d_back_club/py.typed"} == files_in(folder)
    assert home / folder == folder.absolute()


def test_the_page_shows_the_error_of_a_broken_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has the error line of a misspelled hook in the generated class."""
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
    """The name gets the spelling of distributions, and the module has underscores."""
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
def test_an_invalid_name_is_refused(home: Path, name: str) -> None:
    """The error says what is expected, and no file is written."""
    done = new_plugin("--", name)
    shown = name.replace("\n", "\\n")
    assert done.output == (
        f"Error: new-plugin '{shown}': is not a name (expected letters and digits, with single -, "
        f"_ or . between, at most {MAX_NAME})\n"
    )
    assert done.exit_code == 2
    assert files_in(home) == {".gitconfig"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Check", "there is a command 'd-back check': choose another name"),
        ("d-back-core", "d-back itself uses this name: choose another name"),
        ("callbacks", "d-back itself uses this name: choose another name"),
        ("mock", "d-back-mock {mock} has a plugin of this name: choose another name"),
    ],
)
def test_a_name_that_is_taken_is_refused(name: str, sentence: str) -> None:
    """The error names the command or the plugin of that name."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = new_plugin(name)
    assert done.output == f"Error: new-plugin '{name}': {sentence.format(mock=version)}\n"
    assert done.exit_code == 2


def test_a_command_is_not_a_name() -> None:
    """Every command of the core, and every distribution of d-back, is refused."""
    for command in (*COMMANDS, "testing", "watch"):
        assert new_plugin(command).exit_code == 2, command


# The folder


def test_dir_names_the_folder(tmp_path: Path) -> None:
    """Missing parent folders are created."""
    folder = tmp_path / "some" / "where"
    assert written("club", "--dir", str(folder)) == folder
    assert (folder / "d_back_club" / "provider.py").is_file()


def test_a_new_repository_counts_as_empty(tmp_path: Path) -> None:
    """A folder with nothing but ``.git`` is accepted."""
    folder = tmp_path / "repository"
    command = [str(shutil.which("git")), "init", "-q", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603
    assert written("club", "--dir", str(folder)) == folder


@pytest.mark.parametrize("there", ["README.md", "notes/plan.txt"])
def test_nothing_is_overwritten(home: Path, there: str) -> None:
    """A folder with files is refused, and no file is added."""
    path = home / "d-back-club" / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    done = new_plugin("club")
    first = Path(there).parts[0]
    assert done.output == (
        f"Error: new-plugin: 'd-back-club' already exists, with '{first}' in it: choose another "
        "folder with --dir\n"
    )
    assert done.exit_code == 2
    assert path.read_text() == "mine"
    assert files_in(home / "d-back-club") == {there}


def test_a_file_is_not_replaced(home: Path) -> None:
    """A file with the name of the folder is refused."""
    (home / "d-back-club").write_text("mine")
    assert new_plugin("club").exit_code == 2
    assert (home / "d-back-club").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_an_error(home: Path) -> None:
    """The error is one line, with exit status 1."""
    (home / "file").write_text("")
    done = new_plugin("club", "--dir", "file/club")
    assert done.output == "Error: NotADirectoryError: Not a directory: 'file/club'\n"
    assert done.exit_code == 1
