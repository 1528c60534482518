"""The stand-in for Pluggy, only ever started as a process of its own."""
