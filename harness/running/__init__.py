"""From cells to records: data, base models, scores, retraining, in this process or in others.

It imports `harness.records`, `harness.selection` and what lies below.
"""
