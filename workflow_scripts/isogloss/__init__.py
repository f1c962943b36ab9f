"""Isogloss: where languages part ways inside a multilingual language model."""
