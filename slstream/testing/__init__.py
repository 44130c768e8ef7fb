"""Conformance suites that every codec and every transport passes, also a user's own."""
