"""Ways of reading from Pluggy, and storing the rows that differ."""
