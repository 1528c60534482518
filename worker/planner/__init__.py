"""Pure functions: the state of an item and its events in, the steps of a sync out."""
