"""What both tracks train with: the one step loop, its optimisers, the saliency mask, the clock and the guards."""
