"""Data sets, one file each: where the images come from. How they are kept is `classification.data`."""
