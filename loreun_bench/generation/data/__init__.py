"""What goes in: concepts and their pictures as latents, prompts, names of classes."""
