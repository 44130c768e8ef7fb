"""Kills parties at random while they train, and compares the result with an undisturbed run's."""
