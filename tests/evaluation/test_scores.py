import json
import math

import pytest

from lightning_polycom.evaluation import scalars, write_results

RESULTS = {
    "results": {
        "arc_easy": {
            "alias": "arc_easy",
            "sample_len": 4,
            "acc,none": 0.5,
            "acc_stderr,none": 0.1,
            "acc_norm,none": 0.25,
            "acc_norm_stderr,none": "N/A",
        },
        "winogrande": {"alias": "winogrande", "acc,none": 0.75, "acc_stderr,none": 0.2},
        "six": {"alias": "six", "acc,none": 0.625},
        "wikitext": {
            "word_perplexity,none": math.inf,
            "word_perplexity_stderr,none": "N/A",
            "byte_perplexity,none": math.nan,
            "bits_per_byte,none": 3.5,
        },
        "gsm8k": {"exact_match,strict-match": 0.0},
    },
    "polycom": {"chance": {"arc_easy": 0.25, "winogrande": 0.5}, "failed": {"piqa": "no network"}},
}


def test_tags_and_the_average():
    assert scalars(RESULTS) == {
        "eval/arc_easy/acc": 0.5,
        "eval/arc_easy/acc_stderr": 0.1,
        "eval/arc_easy/acc_norm": 0.25,
        "eval/arc_easy/chance": 0.25,
        "eval/winogrande/acc": 0.75,
        "eval/winogrande/acc_stderr": 0.2,
        "eval/winogrande/chance": 0.5,
        "eval/six/acc": 0.625,
        "eval/wikitext/bits_per_byte": 3.5,
        "eval/gsm8k/exact_match,strict-match": 0.0,
        "eval/average": pytest.approx((0.25 + 0.75) / 2),
    }


def test_without_multiple_choice_there_is_no_average():
    results = {"results": {"wikitext": {"bits_per_byte,none": 1.0}}, "polycom": {"chance": {}, "failed": {}}}
    assert scalars(results) == {"eval/wikitext/bits_per_byte": 1.0}


def test_the_file_is_strict_json(tmp_path):
    path = tmp_path / "evals" / "step-00000010.json"
    write_results(path, RESULTS)
    text = path.read_text()
    assert "Infinity" not in text and "NaN" not in text
    assert json.loads(text)["results"]["wikitext"]["word_perplexity,none"] is None
    assert json.loads(text)["results"]["arc_easy"] == RESULTS["results"]["arc_easy"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
