"""Tests of reading from Pluggy and storing rows."""
