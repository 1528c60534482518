"""One leased item from plan to settlement."""
