"""A colour of their own for some members, as a provider for d-back."""

from d_back_paint.provider import Options, Provider

__all__ = ["Options", "Provider"]
