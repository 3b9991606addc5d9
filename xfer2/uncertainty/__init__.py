"""What a prediction knows of itself, and how well it knows it."""
