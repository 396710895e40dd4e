"""Conformance checks: what every method and every task must do for its numbers to be comparable."""
