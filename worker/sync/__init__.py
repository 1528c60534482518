"""Making rows equal Pluggy's: one file an entity; what should happen next is returned, not queued."""
