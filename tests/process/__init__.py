"""Tests of whole processes, of import rules and of the mutants."""
