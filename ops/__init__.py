"""The window and the hand: command line, page, read barrier and demo."""
