"""`MockDataProvider` is `d_back_mock.MockDataProvider`."""

from d_back_mock import MockDataProvider

__all__ = ["MockDataProvider"]
