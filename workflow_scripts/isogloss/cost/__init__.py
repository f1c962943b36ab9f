"""What jobs ask for and what a study will cost."""
