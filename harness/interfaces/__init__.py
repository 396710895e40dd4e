"""What methods and tasks are written against: `Method`, `Task`, `View`, and the parameters that both have.

Start with `method` or `task`. It imports `harness.gradients`, `harness.data` and what lies below. It does not know
which methods and tasks there are.
"""
