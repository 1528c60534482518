"""Connected items: their life cycle, their collections, and the merge."""
