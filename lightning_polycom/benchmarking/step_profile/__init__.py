"""Where the time of a training step goes, as shares that add up to all of it."""
