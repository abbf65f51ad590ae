"""Damaged input for every decoder that faces the network or the disk: only the documented errors may come out."""
