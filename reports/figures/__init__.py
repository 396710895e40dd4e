"""Figures of stored results. `reports.figures.drawn` names them all."""
