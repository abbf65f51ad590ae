"""How fast, how large and how far: measured, never part of the timed tests. ``python -m benchmarks --help``."""
