"""Tests of the JavaScript client: its own tests, its types and its size."""
