"""Reads stored results and writes tables; never runs anything and never imports torch."""
