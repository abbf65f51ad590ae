"""The owner's side: training, releases, the federated loop, comparison."""
