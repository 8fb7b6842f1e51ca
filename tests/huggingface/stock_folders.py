"""Folders as transformers itself saves them."""

from pathlib import Path

import torch

SIZES = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "eos_token_id": 0,
}


def stock_folder(architecture: str, folder: Path, prepared: Path, saving: dict | None = None, **options):
    """A folder that transformers itself has saved, with random weights; `saving` goes to `save_pretrained`."""
    import transformers

    config = getattr(transformers, architecture.replace("ForCausalLM", "Config"))(**{**SIZES, **options})
    torch.manual_seed(2)
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, **(saving or {}))
    (folder / "tokenizer.json").write_bytes((prepared / "tokenizer.json").read_bytes())
    return model
