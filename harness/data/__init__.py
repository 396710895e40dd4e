"""What comes from outside: files, downloads, and the arrays that users give.

It checks and converts, and knows nothing of methods, tasks or results. It imports `harness.errors` alone.
"""
