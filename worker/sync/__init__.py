"""Making rows equal Pluggy's: one file an entity; what is next is returned, not queued."""
