"""The contract of a method, the gradient loop, the loss curve, protocols."""
