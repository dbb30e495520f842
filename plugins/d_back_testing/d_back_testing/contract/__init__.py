"""The contract between d-back and a provider, as tests.

::

    class TestClub(ProviderContract):
        def provider(self):
            return ClubProvider(ClubConfig(host="localhost"))

`Suite` says what else can be told about the provider. Each check is one test, on an event loop of
its own, with a provider of its own; where a check fails, it quotes `d_back_core.hookspecs`.
"""

from d_back_testing.contract.answers import Answers
from d_back_testing.contract.asked import Asked
from d_back_testing.contract.declared import Declared
from d_back_testing.contract.life import Life
from d_back_testing.contract.stream import Stream
from d_back_testing.contract.whole import Whole


class ProviderContract(Declared, Life, Answers, Stream, Asked, Whole):
    """Inherit this and say what is tried; pytest collects the tests."""
