"""Durable logs: one contract with Kafka's semantics, and its implementations."""
