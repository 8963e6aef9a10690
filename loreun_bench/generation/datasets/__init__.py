"""Data sets of labelled pictures, one file each: `(root, split) -> Pictures`."""
