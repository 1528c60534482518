"""The operator's tools: command line, migrations, demo, and the comparison with Pluggy."""
