"""The model that is unlearned: text-to-image pipelines, found, loaded and sampled from."""
