"""Typed statements over the rows of an item: one module for each entity."""
