"""What runs in one process: the composition root, what it keeps, and what it says of itself."""
