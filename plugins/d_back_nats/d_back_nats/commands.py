"""``d-back nats status``."""

import asyncio

import click

from d_back_core import command_config
from d_back_nats.config import NatsConfig
from d_back_nats.failure import NatsError
from d_back_nats.status import status


@click.command("status")
@click.option(
    "--provider",
    metavar="NAME",
    default="nats",
    help="The provider whose configuration to use.",
)
@click.pass_context
def status_command(ctx: click.Context, /, *, provider: str) -> None:
    """Show the bucket, and which origin writes it; exit status 1 if something is wrong."""
    config = command_config(NatsConfig, provider)
    try:
        findings = asyncio.run(status(config))
    except NatsError as error:
        raise click.ClickException(str(error)) from error
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.what:<{width}}  {finding.says}")
    if not all(finding.fine for finding in findings):
        ctx.exit(1)


COMMANDS = (status_command,)
