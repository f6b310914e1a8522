"""Ranks items for users from several modalities: train offline, promote in a registry, score batch files."""
