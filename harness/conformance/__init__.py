"""The rules that every method and task must keep, as checks. Each check has a reason and a way to mend a failure.

This package imports `harness.running` and the packages below `harness.running`.
"""
