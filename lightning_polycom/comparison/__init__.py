"""Comparing runs: plans of arms that differ in one thing, running them, and what may be said of what came out."""
