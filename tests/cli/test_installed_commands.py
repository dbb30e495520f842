"""Commands of installed packages (entry-point group ``d_back.commands``)."""

import re

import pytest
from click.testing import CliRunner, Result
from packages import Packages

from d_back_core.cli.main import main

GREET = """
import click

@click.command()
def greet():
    \"\"\"Greet the club.\"\"\"
    click.echo("hello")
"""


def install(packages: Packages, name: str, source: str = GREET, **entry_point: str) -> str:
    """Install a distribution with the stand-alone command ``greet``."""
    target = entry_point.get("at", f"d_back_test_{name}:greet".replace("-", "_"))
    return packages.install(name, source, at=target, plugin="greet", group="d_back.commands")


def d_back(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def without_folder(output: str) -> str:
    return re.sub(r"/[^ ]*/site/", "", output)


def test_a_command_runs(packages: Packages) -> None:
    """The entry point is loaded when its name is typed."""
    install(packages, "greeter")
    assert d_back("greet").output == "hello\n"


def test_a_command_is_in_the_help(packages: Packages) -> None:
    """The help has its summary, between those of the core."""
    install(packages, "greeter")
    assert re.search(r"^  greet +Greet the club\.$", d_back("--help").output, re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "1 / 0\n",
            (
                "d_back_test_greeter.py:7: cannot be imported: ZeroDivisionError: division by "
                "zero; correct that line, or install another version of d-back-greeter"
            ),
        ),
        (
            "import no_such_library\n",
            (
                "d_back_test_greeter.py:7: cannot be imported: ModuleNotFoundError: No module "
                "named 'no_such_library'; install 'no_such_library', and add it to the "
                "dependencies of d-back-greeter"
            ),
        ),
        (
            GREET.replace("greet", "great"),
            (
                "d_back_test_greeter.py: the entry point names 'greet', which is not in the "
                "module (did you mean 'great'? known: great); correct it in its pyproject.toml"
            ),
        ),
        (
            "def greet(): pass\n",
            (
                "d_back_test_greeter.py: the entry point is not a click.Command; "
                "write module:command in its pyproject.toml"
            ),
        ),
    ],
    ids=["raises", "lacks a library", "is misspelled", "is not a command"],
)
def test_a_broken_command_is_an_error(packages: Packages, source: str, error: str) -> None:
    """The error is one line with the command, its package, the file and the remedy."""
    install(packages, "greeter", source)
    done = d_back("greet")
    where = "command 'greet' (d-back-greeter 1.0, d_back_test_greeter:greet)"
    assert without_folder(done.output) == f"Error: {where}: {error}\n"
    assert done.exit_code == 2


def test_an_entry_point_without_a_command_is_an_error(packages: Packages) -> None:
    """The remedy has the form of the entry point of a command."""
    install(packages, "greeter", at="d_back_test_greeter:greet:x")
    done = d_back("greet")
    assert "is not valid; write module:command in its pyproject.toml\n" in done.output
    assert done.exit_code == 2


def test_a_broken_command_does_not_break_the_help(packages: Packages) -> None:
    """The help shows the other commands, and how to see the error."""
    install(packages, "greeter", "1 / 0\n")
    done = d_back("--help")
    assert done.exit_code == 0
    assert re.search(r"^  greet +\(broken: run d-back greet\)$", done.output, re.MULTILINE)
    assert re.search(r"^  check +Check the configuration", done.output, re.MULTILINE)


def test_a_command_of_two_packages_is_an_error(packages: Packages) -> None:
    """The error names both packages, and neither of them is loaded."""
    install(packages, "one", "1 / 0\n")
    install(packages, "two", "1 / 0\n")
    done = d_back("greet")
    assert without_folder(done.output) == (
        "Error: command 'greet' is installed by "
        "d-back-one 1.0 (d_back_test_one:greet, d_back_test_one.py) and "
        "d-back-two 1.0 (d_back_test_two:greet, d_back_test_two.py): uninstall one of them\n"
    )
    assert done.exit_code == 2


def test_a_command_precedes_a_plugin_of_its_name(packages: Packages) -> None:
    """A provider plugin with the same name keeps its other uses."""
    install(packages, "greeter")
    packages.install("club", plugin="greet")
    assert d_back("greet").output == "hello\n"


def test_another_command_does_not_load_it(packages: Packages) -> None:
    """A broken package does not affect the commands of others."""
    install(packages, "greeter", "1 / 0\n")
    assert d_back("schema", "protocol").exit_code == 0
