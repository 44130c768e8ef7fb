"""Real brokers for the tests, and what stands between them and their clients."""
