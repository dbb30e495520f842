"""The page keeps the contract of what it has of a provider."""

from typing import ClassVar

from d_back_core import Secret
from d_back_page import PageConfig, PageProvider
from d_back_testing import ProviderContract

TOKEN = "a-token-for-the-operator"


class TestPage(ProviderContract):
    """Neither servers nor users, but paths; the operator's wants a token."""

    http_paths = ("/",)
    options: ClassVar = {"token": TOKEN}
    secrets: ClassVar = [TOKEN]

    def provider(self) -> PageProvider:
        return PageProvider(PageConfig(token=Secret(TOKEN)))
