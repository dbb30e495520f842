"""Programs for work on d-back itself. Nothing here is in a wheel."""
