"""Faults on demand, and shapes that no contract promises."""
