"""Samples, readers and an order that is a pure function of (seed, step). A sample is a dict from modality name to value."""
