"""The planner: pure functions from an item's state and pending events to the steps of a sync."""
