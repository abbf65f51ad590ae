"""The wire: versioned payloads and their code."""
