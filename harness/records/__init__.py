"""Records of cells and of requests, as files in a results folder.

This package imports `harness.selection` and the packages below it.
"""
