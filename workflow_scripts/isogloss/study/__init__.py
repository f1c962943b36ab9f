"""A study: its settings, and what identifies every artifact that it names."""
