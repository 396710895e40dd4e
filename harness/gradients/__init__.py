"""Per-sample gradients of any model: computing them, storing them, and products without the full n × p matrix.

Every module here can change a result of the methods that look at gradients. A record therefore holds a separate
version (hash) of this code. This package imports `harness.data` and the packages below `harness.data`.
"""
