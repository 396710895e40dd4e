"""Runs cells and makes records: data, base models, scores, retraining, in this process or in others.

This package imports `harness.records`, `harness.selection` and the packages below them.
"""
