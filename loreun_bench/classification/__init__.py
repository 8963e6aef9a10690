"""The classification track: data sets, forget splits, models, methods and metrics for image classifiers."""
