"""What the log of a federation tells afterwards; nothing here writes to it."""
