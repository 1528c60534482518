"""The demo: the whole service against the simulator, compared row by row."""
