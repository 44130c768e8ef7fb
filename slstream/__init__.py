"""Split learning over a durable log: compressed, resumable, replayable."""
