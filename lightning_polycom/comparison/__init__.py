"""Comparisons: arms that differ in what is compared and in nothing else, their runs, and what came out."""
