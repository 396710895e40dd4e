"""Tells whether a detector got worse, by a comparison of results with a baseline.

This package imports `harness.results` and the packages below it.
"""
