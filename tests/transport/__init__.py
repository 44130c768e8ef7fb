"""Tests of slstream.transport."""
