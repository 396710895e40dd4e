"""Whether a detector got worse: comparing results with a baseline.

It imports `harness.results` and what lies below.
"""
