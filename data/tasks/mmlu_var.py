"""Questions of MMLU for the tasks mmlu_var_*: every validation question of a category behind seven prompts."""

import gzip
import json
from pathlib import Path

import datasets

SUBJECTS = {
    "stem": (
        "abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science "
        "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
        "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
        "high_school_mathematics high_school_physics high_school_statistics machine_learning"
    ),
    "humanities": (
        "formal_logic high_school_european_history high_school_us_history high_school_world_history international_law "
        "jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law "
        "world_religions"
    ),
    "social_sciences": (
        "econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics "
        "high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations "
        "security_studies sociology us_foreign_policy"
    ),
    "other": (
        "business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
        "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology"
    ),
}
SHOTS = (0, 1, 2, 3, 4, 5)


def load(category: str, folder: str | None = None, **_) -> datasets.DatasetDict:
    """The rows `prompt`, `choices`, `answer`, `subject`, seven for each validation question of the category.

    They come from cais/mmlu on the Hub, subject by subject as lm-eval's own mmlu tasks read it, or from
    `folder`/<subject>/validation.jsonl and dev.jsonl, also with .gz behind.
    """
    rows = []
    for subject in SUBJECTS[category].split():
        questions, examples = (_read(subject, split, folder) for split in ("validation", "dev"))
        for question in questions:
            kept = {"choices": question["choices"], "answer": question["answer"], "subject": subject}
            rows += [{"prompt": prompt, **kept} for prompt in _prompts(question, subject, examples)]
    return datasets.DatasetDict({"validation": datasets.Dataset.from_list(rows)})


def _prompts(question: dict, subject: str, examples: list[dict]) -> list[str]:
    plain = _asked(question)
    instruction = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}:\n\n"
    solved = [f"{_asked(example)} {example['choices'][example['answer']]}\n\n" for example in examples]
    return [plain, *(instruction + "".join(solved[:shots]) + plain for shots in SHOTS)]


def _asked(question: dict) -> str:
    return f"Question: {question['question'].strip()}\nAnswer:"


def _read(subject: str, split: str, folder: str | None) -> list[dict]:
    if folder is None:
        return list(datasets.load_dataset("cais/mmlu", subject, split=split))
    path = Path(folder) / subject / f"{split}.jsonl"
    plain = path.is_file()
    with path.open("rb") if plain else gzip.open(f"{path}.gz") as file:
        return [json.loads(line) for line in file]
