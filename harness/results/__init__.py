"""Turns records into numbers and tables: the tidy table, metrics, statistics, staleness, lists of suspects.

This package imports `harness.records`, `harness.running` (for the order of ties) and the packages below them. This
package runs no cells.
"""
