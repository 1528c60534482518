"""A simulator of the data side of Pluggy's API: one local process, deterministic by seed."""
