"""The long run: hostile clients of every kind, and honest ones that must not notice them."""

import sys
import tempfile
from pathlib import Path

import click

from hostile.run import Minute, Run


@click.command()
@click.option("--minutes", default=10.0, help="How long it runs.")
@click.option("--clients", default=100, help="The number of honest clients.")
@click.option("--tls/--no-tls", default=False, help="With TLS.")
@click.option("--uvloop/--no-uvloop", default=True, help="On uvloop, if it is installed.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the output of all processes stays.",
)
def main(minutes: float, clients: int, folder: Path | None, *, tls: bool, uvloop: bool) -> None:
    """Look for an honest client that is disconnected or served late, and for lost memory."""
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(folder or Path(temporary), clients, tls=tls, uvloop=uvloop)
        click.echo(Minute.HEADINGS)
        for minute in run.minutes(minutes):
            click.echo(minute)
    click.echo(run.summary())
    for problem in run.broken:
        click.echo(f"BROKEN: {problem}")
    sys.exit(1 if run.broken else 0)


if __name__ == "__main__":
    main()
