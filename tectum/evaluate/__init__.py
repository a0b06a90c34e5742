"""Metrics of the field, each a score with an interval and a passport."""
