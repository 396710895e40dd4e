"""The registered methods and tasks, and the way from a user's selection to cells.

This package imports `harness.interfaces` and the packages below `harness.interfaces`. The packages `methods` and
`tasks` are imported by name alone.
"""
