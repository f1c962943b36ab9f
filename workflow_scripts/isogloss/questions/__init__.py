"""Parallel questions: where they come from, how they are checked, what a model is asked."""
