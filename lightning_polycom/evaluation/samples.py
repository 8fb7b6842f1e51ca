"""Every question with what the decoder said to it, in the form of lm-eval's own sample files."""

import json
from pathlib import Path
from typing import Any

from lightning_polycom.atomic import atomic_path


def write_samples(results_path: Path, samples: dict[str, list[dict[str, Any]]]) -> None:
    """Writes samples_<task>.jsonl for each task into the folder named as `results_path` without .json, atomically.

    `samples` is what lm-eval gives by task: the document, the requests, log-likelihoods in nats and the metrics.
    """
    folder = results_path.with_suffix("")
    for task, rows in samples.items():
        with atomic_path(folder / f"samples_{task.replace('/', '_')}.jsonl") as temporary:
            temporary.write_text("".join(_line(row) for row in rows), encoding="utf-8")


def _line(sample: dict[str, Any]) -> str:
    from lm_eval.utils import handle_non_serializable, sanitize_list

    arguments = {
        f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
        for i, parts in enumerate(sample["arguments"])
    }
    plain = {
        **sample,
        "arguments": arguments,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }
    return json.dumps(plain, default=handle_non_serializable, ensure_ascii=False) + "\n"
