"""The ingredients of scenarios, by what they act on."""
