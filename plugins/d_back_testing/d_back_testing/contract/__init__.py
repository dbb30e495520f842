"""The contract between d-back and a provider, as tests.

::

    class TestClub(ProviderContract):
        def provider(self):
            return ClubProvider(ClubConfig(host="localhost"))

`Suite` has the attributes that such a class may set. Each check is one test, with an event loop
and a provider of its own. A check that fails quotes the rule of `d_back_core.hookspecs` that the
provider violates.
"""

from d_back_testing.contract.class_checks import ClassChecks
from d_back_testing.contract.end_to_end_checks import EndToEndChecks
from d_back_testing.contract.event_checks import EventChecks
from d_back_testing.contract.lifecycle_checks import LifecycleChecks
from d_back_testing.contract.other_hook_checks import OtherHookChecks
from d_back_testing.contract.record_checks import RecordChecks
from d_back_testing.contract.source_loss_checks import SourceLossChecks


class ProviderContract(
    ClassChecks,
    LifecycleChecks,
    RecordChecks,
    EventChecks,
    SourceLossChecks,
    OtherHookChecks,
    EndToEndChecks,
):
    """Inherit this class and define `provider`; pytest collects the checks."""
