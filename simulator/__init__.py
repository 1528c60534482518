"""A stand-in for the data side of Pluggy's API: one process on loopback, deterministic by seed."""
