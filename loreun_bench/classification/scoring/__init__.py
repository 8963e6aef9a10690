"""What measures: every set through the model, once."""
