"""The bank's side: accounts, movements and products, drawn from a seed."""
