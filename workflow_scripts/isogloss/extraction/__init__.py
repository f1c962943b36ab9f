"""Extraction: states and scores of every question, once, into activation files."""
