"""README.md of an exported folder: what the decoder is, what it was trained on, how to load it."""

from lightning_polycom.huggingface.run_facts import RunFacts
from lightning_polycom.model import DecoderConfig

CITATION = """\
```bibtex
@inproceedings{zhuo2025polynomial,
  title     = {Polynomial Composition Activations: Unleashing the Dynamics of Large Language Models},
  author    = {Zhuo, Zhijian and Wang, Ya and Zeng, Yutao and Li, Xiaoqing and Zhou, Xun and Ma, Jinwen},
  booktitle = {International Conference on Learning Representations},
  year      = {2025}
}
```"""


def model_card(config: DecoderConfig, facts: RunFacts, name: str, own: bool, dtype: str, license_: str | None) -> str:
    """The card as Markdown with the metadata that the Hub reads; `own` means modeling files lie in the folder."""
    parts = [
        _front_matter(license_),
        f"# {name}",
        f"A decoder language model with the activation **{config.activation.name}** in its "
        f"{'experts' if config.mixture_of_experts else 'feed-forward layers'}, "
        "trained and exported with lightning_polycom.",
        _table("", ["", ""], _decoder_rows(config, dtype)),
        _table("## Training", ["", ""], _training_rows(facts)),
        _validation(facts),
        _tasks(facts),
        _usage(own),
        f"## Licence\n\n{_licence_line(license_)}",
        "## Citation\n\nPolyReLU and PolyNorm are the work of Zhuo et al. (arXiv:2411.03884):\n\n" + CITATION,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(license_: str | None) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags:", "- polycom"]
    return "\n".join([*lines, *([f"license: {license_}"] if license_ else []), "---"])


def _decoder_rows(config: DecoderConfig, dtype: str) -> list[list[str]]:
    options = ", ".join(f"{key} {value}" for key, value in config.activation.options.items())
    return [
        ["activation", config.activation.name + (f" ({options})" if options else "")],
        ["parameters", f"{config.num_parameters:,}"],
        *_expert_rows(config),
        ["layers, width", f"{config.num_layers}, {config.hidden_size}"],
        ["heads, key and value heads", f"{config.num_heads}, {config.key_value_heads}"],
        [
            "width of an expert" if config.mixture_of_experts else "feed-forward width",
            f"{config.feed_forward_size}{', gated' if config.is_gated else ''}",
        ],
        ["QK-norm", config.qk_norm],
        ["context", f"{config.max_sequence_length:,} tokens"],
        ["vocabulary", f"{config.vocab_size:,} rows{', tied' if config.tie_embeddings else ''}"],
        ["weights", dtype],
    ]


def _expert_rows(config: DecoderConfig) -> list[list[str]]:
    mixture = config.mixture_of_experts
    if mixture is None:
        return []
    experts = f"{mixture.num_experts}, of which {mixture.experts_per_token} take each token"
    shared = config.shared_feed_forward_size
    return [
        ["parameters active for a token", f"{config.num_active_parameters:,}"],
        ["experts", experts + (", chosen with a selection bias" if mixture.selection_bias else "")],
        [
            "weights of a token's experts",
            "divided by their sum" if mixture.normalize_weights else "as the router gives",
        ],
        *([["width of the shared expert", f"{shared}"]] if shared else []),
    ]


def _training_rows(facts: RunFacts) -> list[list[str]]:
    total = sum(facts.mixture.values())
    mixture = ", ".join(f"{domain} {weight / total:.3f}" for domain, weight in facts.mixture.items())
    rows = [
        ["optimizer steps", f"{facts.step:,}"],
        ["tokens", "" if facts.tokens is None else f"{facts.tokens:,}"],
        ["data fingerprint", facts.data_fingerprint or ""],
        ["data mixture", mixture],
        ["precision", facts.record.get("precision", "")],
        ["commit", facts.record.get("git_commit") or ""],
        ["versions", ", ".join(f"{package} {v}" for package, v in facts.record.get("versions", {}).items())],
    ]
    return [row for row in rows if row[1]]


def _validation(facts: RunFacts) -> str:
    """One row for each domain of held-out text."""
    rows = []
    for tag in sorted(facts.metrics):
        if tag.startswith("val/") and tag.endswith("/loss"):
            domain = "mean" if tag == "val/loss" else tag.removeprefix("val/").removesuffix("/loss")
            bits = facts.metrics.get(f"val/{domain}/bits_per_byte")
            figures = [f"{facts.metrics[tag]:.4f}", "" if bits is None else f"{bits:.4f}"]
            rows.append([domain, *figures, f"{facts.metric_steps[tag]:,}"])
    return _table("## Held-out text", ["domain", "loss (nats per token)", "bits per byte", "at step"], rows)


def _tasks(facts: RunFacts) -> str:
    """One row for each metric of each lm-eval task."""
    rows = []
    for tag in sorted(facts.metrics):
        parts = tag.split("/")
        if parts[0] != "eval" or len(parts) != 3 or parts[2] == "chance":
            continue
        if parts[2].endswith(("_stderr", "_perplexity")):  # of a rolling perplexity bits per byte say the same
            continue
        error = facts.metrics.get(f"{tag}_stderr")
        chance = facts.metrics.get(f"eval/{parts[1]}/chance") if parts[2].startswith("acc") else None
        values = (facts.metrics[tag], error, chance)
        figures = ["" if value is None else f"{value:.4f}" for value in values]
        rows.append([parts[1], parts[2], *figures, f"{facts.metric_steps[tag]:,}"])
    titles = ["task", "metric", "value", "standard error", "chance", "at step"]
    return _table("## Downstream tasks (lm-eval)", titles, rows)


def _usage(own: bool) -> str:
    trust = ", trust_remote_code=True" if own else ""
    why = (
        "\n\nNo class of transformers computes this decoder, so `trust_remote_code=True` runs the folder's "
        "`modeling_polycom.py` and the files beside it."
        if own
        else ""
    )
    return f"""## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER"{trust})
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))
```{why}

The tokenizer adds no special tokens, as in training; the end-of-text token stands between documents."""


def _licence_line(license_: str | None) -> str:
    if license_:
        return f"The weights: {license_}. Code files in this folder: Apache-2.0."
    return (
        "The weights: not stated; whoever publishes them decides, within the licences of the training data. "
        "Code files in this folder: Apache-2.0."
    )


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table below a title; nothing without rows."""
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{title}\n\n{table}" if title else table
