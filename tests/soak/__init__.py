"""A deployed federation over many rounds with a fault in each: it ends with all rounds, flat memory, nothing left."""
