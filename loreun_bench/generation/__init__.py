"""The generation track: text-to-image pipelines, concepts, methods, sampling and scorers."""
