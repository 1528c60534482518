"""One module an entity: its columns and how it is read."""
