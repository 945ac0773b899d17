"""Verbs on data sets and on the machine."""
