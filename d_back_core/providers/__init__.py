"""Plugins: found, loaded, checked, run and supervised; what they return is validated."""
