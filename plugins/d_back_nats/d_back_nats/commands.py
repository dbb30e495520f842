"""``d-back nats status``."""

import click

COMMANDS: tuple[click.Command, ...] = ()
