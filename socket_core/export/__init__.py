"""An adapted network outside this product: what its file says, one graph from raw image to logits, and its formats."""
