"""What is kept of a cell, and of what was asked for: files in a results folder.

It imports `harness.selection` and what lies below.
"""
