"""Tests of the command line, settings, migrations, roles, views and manifests."""
