"""The mock keeps the contract."""

from d_back_core.testing import ProviderContract
from d_back_mock import MockConfig, MockProvider


class TestDemo(ProviderContract):
    """The demo communities."""

    def provider(self) -> MockProvider:
        return MockProvider(MockConfig(seed=1))
