"""Measurements: figures that depend on the machine, so no test asserts them."""
