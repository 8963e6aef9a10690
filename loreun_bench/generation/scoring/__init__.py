"""What measures: pictures read back, who recognises what they show, distances between sets of them."""
