"""Arms that differ in one thing: reading their runs, and what the differences between them mean."""
