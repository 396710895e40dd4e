"""Per-sample gradients: how they are computed of any model, and how they are kept and multiplied without being built.

Every module here can decide a number of the methods that look at gradients; their code is a version of its own in a
record. It imports `harness.data` and what lies below.
"""
