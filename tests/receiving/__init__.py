"""Tests of a delivery until it is stored."""
