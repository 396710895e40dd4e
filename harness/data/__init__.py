"""Data from outside: files, downloads, and the arrays that users give.

This package checks and converts data. It does not depend on methods, tasks or results. Its only import from the
harness is `harness.errors`.
"""
