"""Which methods and tasks there are, and which of them with which parameters are asked for: from names to cells.

It imports `harness.interfaces` and what lies below, and reaches the packages `methods` and `tasks` by name alone.
"""
