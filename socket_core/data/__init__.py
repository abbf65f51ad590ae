"""Image data: sources, preparation, shares."""
