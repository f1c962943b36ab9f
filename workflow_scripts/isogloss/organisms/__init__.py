"""Organisms: tiny models trained on a synthetic world, with a known degree of sharing."""
