"""How the cost of work grows with its size: measured slopes beside expected ones."""
