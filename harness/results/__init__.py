"""From records to numbers and tables: the tidy table, metrics, statistics, staleness, lists of suspects.

It imports `harness.records`, `harness.running` (for the order of ties) and what lies below. It runs nothing.
"""
