"""What every method and task must do, as checks with a reason and a way to mend what fails.

It imports `harness.running` and what lies below.
"""
