"""The mock keeps the contract."""

from typing import ClassVar

from d_back_core import Duration, Secret
from d_back_core.testing import ProviderContract
from d_back_mock import MockConfig, MockProvider


class TestDemo(ProviderContract):
    """The demo communities; one of them is protected."""

    secrets: ClassVar = ["the-demo-token"]

    def provider(self) -> MockProvider:
        return MockProvider(MockConfig(seed=1, authorize=Secret("the-demo-token")))


class TestCrowd(ProviderContract):
    """Large synthetic servers."""

    options: ClassVar = {"users": 10}

    def provider(self) -> MockProvider:
        return MockProvider(MockConfig(seed=1, users=3000, server_count=3))


class TestSilent(ProviderContract):
    """Nothing ever happens."""

    def provider(self) -> MockProvider:
        return MockProvider(
            MockConfig(presence_interval=Duration(0), message_interval=Duration(0))
        )
