"""Other people's code: found, loaded, checked, run and supervised."""
