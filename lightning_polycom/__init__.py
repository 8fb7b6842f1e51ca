"""Pretrain language models with polynomial activations and measure whether they are better."""

__version__ = "0.1.0"
