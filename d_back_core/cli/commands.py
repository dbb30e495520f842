"""The commands of ``d-back``, except running the gateway."""

import click

from d_back_core.cli.init import init
from d_back_core.cli.inspection import check, explain_command
from d_back_core.cli.plugins import plugins
from d_back_core.providers.entry_points import installed, installed_commands, only
from d_back_core.providers.entry_points import load as load_entry_point
from d_back_core.providers.loader import add_commands
from d_back_core.secret import hash_password


@click.command("hash-password")
def hash_password_command() -> None:
    """Ask for a password and print its hash, for servers.ID.password."""
    click.echo(hash_password(click.prompt("Password", hide_input=True, confirmation_prompt=True)))


def installed_command(name: str) -> click.Command | None:
    """Import and return a command of an installed package; None if there is none.

    A stand-alone command (entry-point group ``d_back.commands``) takes precedence over the
    commands of a provider plugin. Raises `PluginError`.
    """
    if candidates := installed_commands().get(name):
        plugin = only(candidates)
        command = load_entry_point(plugin)
        if not isinstance(command, click.Command):
            raise plugin.error("the entry point is not a click.Command", plugin.remedy)
        return command
    if candidates := installed().get(name):
        group = click.Group(name, help=f"Commands of the provider plugin {name}.")
        return group if add_commands(only(candidates), group) else None
    if name in SEPARATE:
        message = f"'d-back {name}' needs {SEPARATE[name]} (pip install {SEPARATE[name]})"
        raise click.ClickException(message)
    return None


SEPARATE = {"new-plugin": "d-back-testing", "schema": "d-back-testing", "watch": "d-back-watch"}
"""Command → the distribution of this project that installs it."""

COMMANDS: dict[str, click.Command] = {
    command.name or "": command
    for command in (check, explain_command, hash_password_command, init, plugins)
}
