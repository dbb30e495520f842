"""What a provider's class says before anything runs: its hooks and its configuration."""

from collections.abc import Mapping
from typing import Any

import click
import pytest
from msgspec import Struct, structs

from d_back_core import config as configuration
from d_back_core.config.decoding import decode
from d_back_core.errors import ConfigError, described
from d_back_core.hookspecs import PROJECT
from d_back_core.providers.plugin_checks import hooks_of, hooks_specified
from d_back_core.secret import Secret
from d_back_testing.contract.checks import Suite, check, needs
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.promises import (
    COMMANDS,
    CONFIG,
    CONSTRUCTOR,
    HOOKS,
    REFUSING,
    SECRETS,
)
from d_back_testing.contract.trial import NAME, Trial

HIDDEN = "d-back-contract-hidden"
"""What stands for a secret."""
UNKNOWN = "d_back_no_such_key"
ODD_VALUES: tuple[object, ...] = (
    *("", " ", "x", "\x00", "ä" * 300, HIDDEN),
    *(0, -1, 2**40, 1.5, float("inf"), True),
    *([], [""], ["x", 1], {}, {"x": "x"}),
)
"""What an operator can write where something else is meant."""
PRIVATE = ("token", "password", "passphrase", "secret", "dsn", "api_key", "private_key")
"""How the names of keys end that nobody may see."""


class Declared(Suite):
    """Checks of the class."""

    @check
    async def test_its_hooks_are_those_that_the_core_calls(self, trial: Trial) -> None:
        """Every hook is marked, known, async where it has to be, and asks for what there is."""
        cls = type(trial.provider)
        for name in sorted(hooks_specified()):
            method: Any = getattr(cls, name, None)
            if method is not None and not hasattr(method, f"{PROJECT}_impl"):
                raise ContractError(
                    f"{trial.kind}.{name} is not marked as a hook: it is never called"
                    " (add @hookimpl).",
                    HOOKS,
                )
        if not hooks_of(cls):
            raise ContractError(
                f"{trial.kind} has no hook at all (mark them with @hookimpl).", HOOKS
            )
        _ = trial.plugin

    @check
    async def test_an_unknown_key_is_told_to_the_operator(self, trial: Trial) -> None:
        """``Config`` is a struct, its keys are its own, and it takes no others."""
        kind = configured_by(trial)
        ours = set(configuration.ProviderConfig.__struct_fields__)
        if taken := sorted(ours & {field.encode_name for field in structs.fields(kind)}):
            raise ContractError(
                f"{trial.kind}.Config has '{taken[0]}', a key of the core.", CONFIG
            )
        told = refused(trial, {**self.options, UNKNOWN: True})
        if told is None or UNKNOWN not in told:
            raise ContractError(
                f"{trial.kind}.Config takes the key '{UNKNOWN}', which it cannot know.", CONFIG
            )

    @check
    async def test_a_wrong_value_is_told_to_the_operator(self, trial: Trial) -> None:
        """Whatever is written for a key, it is taken, or refused in a sentence that names it."""
        kind = configured_by(trial)
        if told := refused(trial, self.options):
            pytest.skip(f"say `options = {{...}}`, a table that is right: {told}")
        keys = [field.encode_name for field in structs.fields(kind)]
        for key in keys:
            for value in ODD_VALUES:
                told = refused(trial, {**self.options, key: value})
                if told is not None and not any(each in told for each in keys):
                    raise ContractError(
                        f"{trial.kind} refuses {key} = {value!r} without naming a key: {told}",
                        REFUSING,
                    )

    @check
    async def test_a_secret_is_not_shown_by_the_configuration(self, trial: Trial) -> None:
        """Keys that sound like secrets are of the type `Secret`, and no error or repr shows
        them."""
        kind = configured_by(trial)
        for field in structs.fields(kind):
            name = field.encode_name
            if name.lower().endswith(PRIVATE) and not holds_secret(field.type):
                raise ContractError(
                    f"{trial.kind}.Config.{name} is a plain {field.type!r}: its type has to be"
                    " d_back_core.Secret.",
                    SECRETS,
                )
            if not holds_secret(field.type):
                continue
            told = refused(trial, {**self.options, name: HIDDEN}) or ""
            shown = [told, *shown_by(trial, {**self.options, name: HIDDEN})]
            if any(HIDDEN in each for each in shown):
                raise ContractError(f"{trial.kind} shows what '{name}' is: {shown}.", SECRETS)

    @check
    async def test_its_commands_can_be_added(self, trial: Trial) -> None:
        """Commands are added by the class alone, and each says what it does."""
        needs(trial, "commands")
        group = click.Group(NAME)
        cls: Any = type(trial.provider)
        try:
            cls.commands(group)
        except Exception as error:  # other people's code: told to its author
            raised = f"{trial.kind}.commands(group), on the class, raised {described(error)}."
            raise ContractError(raised, COMMANDS) from error
        silent = [name for name, each in group.commands.items() if not each.help]
        if silent or not group.commands:
            raise ContractError(
                f"{trial.kind}.commands adds {', '.join(silent) or 'nothing'} without a help.",
                COMMANDS,
            )


def configured_by(trial: Trial) -> type[Struct]:
    """Its ``Config``; the check is skipped where it takes no configuration."""
    kind = getattr(type(trial.provider), "Config", None)
    if kind is None:
        pytest.skip(f"{trial.kind} takes no configuration")
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        raise ContractError(f"{trial.kind}.Config is no msgspec.Struct.", CONFIG)
    return kind


def made_of(trial: Trial, options: Mapping[str, Any]) -> tuple[object, object]:
    """The configuration and the provider that this table gives; raises `ConfigError`."""
    ours = configuration.ProviderConfig.__struct_fields__
    where = f"d-back.toml: providers.{NAME}"
    try:
        config = decode(configured_by(trial), dict(options), where, also=ours)
    except ConfigError:
        raise
    except Exception as error:
        raised = f"{trial.kind}.Config, of {dict(options)!r:.200}, raised {described(error)}."
        raise ContractError(raised, REFUSING) from error
    try:
        cls: Any = type(trial.provider)
        return config, cls(config)
    except ConfigError:
        raise
    except Exception as error:
        raised = f"{trial.kind}({config!r:.200}) raised {described(error)}."
        raise ContractError(raised, CONSTRUCTOR) from error


def refused(trial: Trial, options: Mapping[str, Any]) -> str | None:
    """What the operator is told about this table; None where it is taken."""
    try:
        made_of(trial, options)
    except ConfigError as error:
        return str(error)
    return None


def shown_by(trial: Trial, options: Mapping[str, Any]) -> list[str]:
    """The texts of what this table makes, if it makes anything."""
    try:
        made = made_of(trial, options)
    except ConfigError:
        return []
    return [*map(repr, made), *map(str, made)]


def holds_secret(hint: object) -> bool:
    """Whether it is a `Secret`, or can be one."""
    parts = getattr(hint, "__args__", ())
    return hint is Secret or any(map(holds_secret, parts))
