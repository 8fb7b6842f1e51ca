"""Folders of Hugging Face transformers: written from a checkpoint, and read into one; needs no transformers itself."""
