"""Metrics of pictures, one file each: `(scene: Scene) -> dict[str, float]`. `score images` runs the same functions."""
