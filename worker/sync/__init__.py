"""Ways of reading from Pluggy, and of storing the rows that differ."""
