"""What a provider's class says before anything runs: its hooks and its configuration."""

from typing import Any

from d_back_core.faults import hooks_of, hooks_specified
from d_back_core.hookspecs import PROJECT
from d_back_core.testing.contract.checks import Suite, check
from d_back_core.testing.contract.error import ContractError
from d_back_core.testing.contract.promises import HOOKS
from d_back_core.testing.contract.trial import Trial


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
