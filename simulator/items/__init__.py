"""Connected items: their life, their collections, and the merge."""
