"""The contract of a method, the gradient loop, training from scratch, protocols, a user's weights."""
