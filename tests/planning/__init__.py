"""Tests of the plan that each event leads to."""
