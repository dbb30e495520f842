"""The speed comparison: our gateway against its peers, in one run (see README.md)."""
