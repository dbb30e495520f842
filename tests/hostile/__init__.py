"""Hostile clients: tests, and a long run of all of them beside honest ones."""
