"""The package ``d_back.mock`` of 0.0.x."""

from d_back.mock.data import MockDataProvider

__all__ = ["MockDataProvider"]
