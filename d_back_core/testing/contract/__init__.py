"""The contract between d-back and a provider, as tests.

::

    class TestClub(ProviderContract):
        def provider(self):
            return ClubProvider(ClubConfig(host="localhost"))
"""

from d_back_core.testing.contract.answers import Answers
from d_back_core.testing.contract.declared import Declared
from d_back_core.testing.contract.life import Life
from d_back_core.testing.contract.stream import Stream


class ProviderContract(Declared, Life, Answers, Stream):
    """Inherit this and say what is tried; pytest collects the tests."""
