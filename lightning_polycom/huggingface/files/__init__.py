"""The files that `polycom export` copies into a folder whose decoder no class of transformers computes."""
