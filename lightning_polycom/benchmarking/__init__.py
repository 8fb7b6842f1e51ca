"""How fast the activations are on this machine, as shares of its memory bandwidth."""
