"""Checks of a provider's class: its hooks, its configuration and its commands."""

from collections.abc import Mapping
from typing import Any

import click
import pytest
from msgspec import Struct, structs

from d_back_core import ConfigError, Secret
from d_back_core import config as configuration
from d_back_core.config.decoding import also, decode
from d_back_core.errors import described
from d_back_core.hookspecs import PROJECT
from d_back_core.providers.plugin_checks import hooks_of, hooks_specified
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.harness import NAME, Harness
from d_back_testing.contract.rules import (
    COMMANDS,
    CONFIG,
    CONSTRUCTOR,
    HOOKS,
    REFUSING,
    SECRETS,
)
from d_back_testing.contract.suite import Suite, check, needs

HIDDEN = "d-back-contract-hidden"
"""The value that secret keys get."""
UNKNOWN = "d_back_no_such_key"
ODD_VALUES: tuple[object, ...] = (
    *("", " ", "x", "\x00", "ä" * 300, HIDDEN),
    *(0, -1, 2**40, 1.5, float("inf"), True),
    *([], [""], ["x", 1], {}, {"x": "x"}),
)
"""Values that an operator may write by mistake."""
SECRET_SUFFIXES = ("token", "password", "passphrase", "secret", "dsn", "api_key", "private_key")
"""Ends of the names of keys that hold secrets."""


class ClassChecks(Suite):
    """Checks of the class, without starting a provider."""

    @check
    async def test_hooks_are_known(self, harness: Harness) -> None:
        """Every hook is marked and known, is async if it must be, and has known parameters."""
        cls = type(harness.provider)
        for name in sorted(hooks_specified()):
            method: Any = getattr(cls, name, None)
            if method is not None and not hasattr(method, f"{PROJECT}_impl"):
                raise ContractError(
                    f"{harness.kind}.{name} is not marked as a hook: the core never calls it"
                    " (add @hookimpl).",
                    HOOKS,
                )
        if not hooks_of(cls):
            raise ContractError(f"{harness.kind} has no hooks (mark them with @hookimpl).", HOOKS)
        _ = harness.plugin

    @check
    async def test_unknown_key_is_rejected(self, harness: Harness) -> None:
        """``Config`` is a struct, has no keys of the core, and rejects unknown keys."""
        kind = config_class(harness)
        ours = set(configuration.ProviderConfig.__struct_fields__)
        if taken := sorted(ours & {field.encode_name for field in structs.fields(kind)}):
            raise ContractError(
                f"{harness.kind}.Config has '{taken[0]}', a key of the core.", CONFIG
            )
        message = rejection(harness, {**self.options, UNKNOWN: True})
        if message is None or UNKNOWN not in message:
            raise ContractError(
                f"{harness.kind}.Config accepts the unknown key '{UNKNOWN}'.", CONFIG
            )

    @check
    async def test_wrong_value_names_its_key(self, harness: Harness) -> None:
        """Any value of a key is accepted, or rejected by an error that names a key."""
        kind = config_class(harness)
        if message := rejection(harness, self.options):
            pytest.skip(f"define `options = {{...}}`, a valid table: {message}")
        keys = [field.encode_name for field in structs.fields(kind)]
        for key in keys:
            for value in ODD_VALUES:
                message = rejection(harness, {**self.options, key: value})
                if message is not None and not any(each in message for each in keys):
                    raise ContractError(
                        f"{harness.kind} rejects {key} = {value!r} without naming a key:"
                        f" {message}",
                        REFUSING,
                    )

    @check
    async def test_configuration_hides_secrets(self, harness: Harness) -> None:
        """Keys named like secrets have the type `Secret`, and no error or repr shows them."""
        kind = config_class(harness)
        for field in structs.fields(kind):
            name = field.encode_name
            if name.lower().endswith(SECRET_SUFFIXES) and not holds_secret(field.type):
                raise ContractError(
                    f"{harness.kind}.Config.{name} has the type {field.type!r}, expected"
                    " d_back_core.Secret.",
                    SECRETS,
                )
            if not holds_secret(field.type):
                continue
            message = rejection(harness, {**self.options, name: HIDDEN}) or ""
            shown = [message, *texts_of(harness, {**self.options, name: HIDDEN})]
            if any(HIDDEN in each for each in shown):
                raise ContractError(
                    f"{harness.kind} shows the value of '{name}': {shown}.", SECRETS
                )

    @check
    async def test_commands_can_be_added(self, harness: Harness) -> None:
        """``commands`` works on the class, and each command has a help text."""
        needs(harness, "commands")
        group = click.Group(NAME)
        cls: Any = type(harness.provider)
        try:
            cls.commands(group)
        except Exception as error:  # the plugin's code may raise anything
            raised = f"{harness.kind}.commands(group), on the class, raised {described(error)}."
            raise ContractError(raised, COMMANDS) from error
        if not group.commands:
            raise ContractError(f"{harness.kind}.commands adds no command.", COMMANDS)
        if silent := [name for name, each in group.commands.items() if not each.help]:
            raise ContractError(
                f"{harness.kind}.commands adds {', '.join(silent)} without a help text.", COMMANDS
            )


def config_class(harness: Harness) -> type[Struct]:
    """Return the class ``Config``. Skips the check if the provider has none."""
    kind = getattr(type(harness.provider), "Config", None)
    if kind is None:
        pytest.skip(f"{harness.kind} takes no configuration")
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        raise ContractError(f"{harness.kind}.Config is not a msgspec.Struct.", CONFIG)
    return kind


def decode_and_make(harness: Harness, options: Mapping[str, Any]) -> tuple[object, object]:
    """Return the configuration and the provider of this table. Raises `ConfigError`."""
    ours = configuration.ProviderConfig.__struct_fields__
    where = f"d-back.toml: providers.{NAME}"
    try:
        config = decode(config_class(harness), dict(options), where, unknown=also(ours))
    except ConfigError:
        raise
    except Exception as error:
        raised = f"{harness.kind}.Config, of {dict(options)!r:.200}, raised {described(error)}."
        raise ContractError(raised, REFUSING) from error
    try:
        cls: Any = type(harness.provider)
        return config, cls(config)
    except ConfigError:
        raise
    except Exception as error:
        raised = f"{harness.kind}({config!r:.200}) raised {described(error)}."
        raise ContractError(raised, CONSTRUCTOR) from error


def rejection(harness: Harness, options: Mapping[str, Any]) -> str | None:
    """Return the error for this table; None if the provider accepts it."""
    try:
        decode_and_make(harness, options)
    except ConfigError as error:
        return str(error)
    return None


def texts_of(harness: Harness, options: Mapping[str, Any]) -> list[str]:
    """Return all texts of the configuration and the provider; empty if the table is rejected."""
    try:
        made = decode_and_make(harness, options)
    except ConfigError:
        return []
    return [*map(repr, made), *map(str, made)]


def holds_secret(hint: object) -> bool:
    """True if the type is `Secret` or has `Secret` in it."""
    parts = getattr(hint, "__args__", ())
    return hint is Secret or any(map(holds_secret, parts))
