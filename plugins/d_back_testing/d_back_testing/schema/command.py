"""The command ``d-back schema``."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from d_back_core.wire import protocol
from d_back_testing.schema import asyncapi, configuration, openapi

DOCUMENTS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "asyncapi": asyncapi.document,
    "config": configuration.document,
    "openapi": openapi.document,
    "protocol": protocol.schema,
}


@click.command()
@click.argument("what", type=click.Choice(list(DOCUMENTS)))
@click.option("--output", metavar="FILE", help="Write this file, instead of printing.")
def schema(what: str, output: str | None) -> None:
    """Print what clients and d-back.toml may contain, as JSON.

    asyncapi: the protocol as an AsyncAPI 3 document. openapi: the HTTP API as an OpenAPI 3.1
    document. protocol, config: JSON Schemas of the messages and of d-back.toml.
    """
    text = json.dumps(DOCUMENTS[what](), indent=2)
    if output is None:
        click.echo(text)
    else:
        Path(output).write_text(f"{text}\n", encoding="utf-8")
