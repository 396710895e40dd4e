"""The interfaces for authors of methods and tasks: `Method`, `Task`, `View`, and the parameters of both.

Start with `method` or `task`. This package imports `harness.gradients`, `harness.data` and the packages below them.
This package does not know which methods and tasks exist.
"""
