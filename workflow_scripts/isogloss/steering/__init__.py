"""Steering: vectors, steered evaluation and its effects."""
