"""A run from the user's settings to its report: what all tasks share of it."""
