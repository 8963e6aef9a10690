"""What stages of this track import when they run: imported once, by the server that workers are forked from."""

import sklearn.metrics
import sklearn.model_selection
import sklearn.svm  # noqa: F401

import loreun_bench.classification.stages  # noqa: F401
