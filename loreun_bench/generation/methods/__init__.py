"""Unlearning methods of the generation track, one file each."""
