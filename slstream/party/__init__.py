"""One organisation's process: data, models, runtime."""
