"""Tests of the owner's side."""

import warnings

with warnings.catch_warnings():
    # Flower's command-line library asks a newer click for names that it deprecates; nothing of ours does.
    warnings.filterwarnings("ignore", message=r"'click\.", category=DeprecationWarning)
    import flwr.app  # noqa: F401
