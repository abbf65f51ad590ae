"""Differential privacy of a site's TI pairs: accounting, the budget ledger, and the training step."""
