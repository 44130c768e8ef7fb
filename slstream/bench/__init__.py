"""Measurements as commands: each prints a table or one JSON object."""
