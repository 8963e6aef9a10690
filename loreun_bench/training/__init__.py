"""What both tracks train with: the one step loop, its optimisers, the saliency mask, the clock, the guards, and what
a method is given."""
