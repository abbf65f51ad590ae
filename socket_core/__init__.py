"""Source-free cross-modal adaptation in plain PyTorch; knows nothing of federation."""
