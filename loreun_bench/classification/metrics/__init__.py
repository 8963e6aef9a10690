"""Metrics, one file each. Those with one argument are stored; those with two are derived when a table is made."""
