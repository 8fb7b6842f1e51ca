"""Whole training steps, through `polycom fit` and by others' means, measured side by side."""
