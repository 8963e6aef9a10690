"""Figures, one kind a file. matplotlib, the extra `plots`, is imported when one is drawn."""
