"""Features of any layers of a network, in one pass over the data."""
