"""`modalrank tune`: searches settings, records the search, and writes the best as a config for `train`."""
