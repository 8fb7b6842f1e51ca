"""The numbers of lm-eval's own `hf` backend, on the same weights, tokenizer and tasks."""

import copy
import re
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance

pytest.importorskip("transformers", reason="needs transformers and accelerate, of the extra `dev`")
pytest.importorskip("accelerate", reason="needs transformers and accelerate, of the extra `dev`")

from transformers_twin import hf_backend, llama, llama_tokenizer, swiglu_decoder

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.evaluation import DecoderLM, load_tasks, run_evaluation
from lightning_polycom.model.generation import generate

KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
FAST = ["arc_easy", "winogrande", "boolq", "commonsense_qa", "wikitext", "lambada_openai", "nq_open"]
EOS, BOS = "<|endoftext|>", "<|padding|>"


@pytest.fixture(scope="module")
def tokenizer(shared) -> Tokenizer:
    return Tokenizer.load(shared / "tokenizers" / "bpe-1024.json")


def both(tokenizer: Tokenizer, folder: Path, window: int, **options):
    decoder = swiglu_decoder(tokenizer.vocab_size, window, **options)
    return DecoderLM(decoder, tokenizer, batch_tokens=4096), hf_backend(decoder, tokenizer, folder, batch_size=4)


class Recorded:
    """Notes what a model answers to lm-eval, by task and kind of request."""

    def __init__(self, lm):
        self.answers: dict[tuple[str, str], list] = {}
        for kind in KINDS:
            setattr(lm, kind, self._noted(kind, getattr(lm, kind)))

    def _noted(self, kind, method):
        def answer(requests, **options):
            values = method(requests, **options)
            for request, value in zip(requests, values, strict=True):
                self.answers.setdefault((request.task_name, kind), []).append(value)
            return values

        return answer


def assert_equal_answers(ours: list, theirs: list) -> None:
    assert len(ours) == len(theirs) > 0
    for mine, exact in zip(ours, theirs, strict=True):
        if isinstance(exact, tuple):
            assert mine[1] == exact[1]
            mine, exact = mine[0], exact[0]
        # fp32 keeps seven digits: beyond a sum of 1,000 they are what limits the agreement.
        assert mine == (exact if isinstance(exact, str) else pytest.approx(exact, abs=1e-4, rel=1e-6))


def compare(tokenizer, folder, names, include, limit, **options) -> set[str]:
    lm, hf = both(tokenizer, folder, 2048, **options)
    recorded = [Recorded(model) for model in (lm, hf)]
    loaded = load_tasks(names, include, num_fewshot=None)
    ours, theirs = (run_evaluation(model, loaded, limit=limit) for model in (lm, hf))
    assert not loaded.failed
    mine, exact = (record.answers for record in recorded)
    assert mine.keys() == exact.keys()
    for key in exact:
        assert_equal_answers(mine[key], exact[key])
    for task, metrics in theirs["results"].items():
        for name, value in metrics.items():
            expected = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            assert ours["results"][task][name] == expected, (task, name)
    return {task for task, _ in exact}


def few_shot_subjects(shared: Path, folder: Path, shots: int) -> list[str]:
    """A folder with a group of two subjects of MMLU, whose questions share their examples."""
    lines = ["group: two_subjects", "task:"]
    for subject in ("anatomy", "machine_learning"):
        files = ", ".join(f"{s}: {shared}/lm_eval/mmlu/{subject}/{s}.jsonl.gz" for s in ("test", "dev"))
        lines += [f"  - task: mmlu_{subject}", "    dataset_path: json", "    dataset_name: null"]
        lines += [f"    num_fewshot: {shots}", f"    dataset_kwargs: {{data_files: {{{files}}}}}"]
    (folder / "two_subjects.yaml").write_text("\n".join(lines) + "\n")
    return [str(folder)]


@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_task(shared, tokenizer, tmp_path):
    # The overlays are groups: their names stand for lm-eval's own tasks on local data.
    folder = tmp_path / "tasks"
    folder.mkdir()
    overlay(shared, folder, FAST)
    assert compare(tokenizer, tmp_path, ["some"], [str(folder)], limit=4, num_key_value_heads=2) == set(FAST)


def overlay(shared: Path, folder: Path, names: list[str]) -> None:
    """A copy of the overlays' entries for a few tasks, because loading all of them takes long."""
    source = shared / "lm_eval" / "tasks_offline"
    entries = []
    for file in ("polycom_six_offline.yaml", "polycom_more_offline.yaml"):
        listed = re.split(r"\n(?=\w)", (source / file).read_text().split("\ntask:\n")[1])[0] + "\n"
        entries += [f"  - task: {entry}" for entry in listed.split("  - task: ")[1:]]
    chosen = [entry for entry in entries if entry.split()[2] in names]
    assert len(chosen) == len(names)
    text = "group: some\ntask:\n" + "".join(chosen)
    (folder / "some.yaml").write_text(text)
    code = (source / "offline_data.py").read_text().replace("__file__", repr(str(source / "offline_data.py")))
    (folder / "offline_data.py").write_text(code)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shots", [0, 5])
def test_questions_that_share_their_examples(shared, tokenizer, tmp_path, shots):
    include = few_shot_subjects(shared, tmp_path, shots)
    assert len(compare(tokenizer, tmp_path, ["two_subjects"], include, limit=6)) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", ["polycom_six_offline", "polycom_more_offline", "mmlu_offline"])
def test_all_tasks(shared, tokenizer, tmp_path, group):
    include = [str(shared / "lm_eval" / "tasks_offline")]
    assert len(compare(tokenizer, tmp_path, [group], include, limit=10)) >= 6


def requests(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, copy.deepcopy(a), i, metadata=("made_up", i, 1)) for i, a in enumerate(arguments)]


PAIRS = [
    ("", "begins with nothing"),
    ("The sum of two", " odd numbers"),
    ("The sum of two ", " odd numbers"),
    ("The sum of two ", ""),
    ("two lines \n\n", "and a third \n "),
    ("unbeliev", "able"),
    ("The sum o", "f two"),
    ("naïve café, 日本", "語 and 🙂"),
    ("🙂", "👍🏽"),
    ("a context far longer than the window, " * 20, "and its end"),
    ("x", " a" * 64),
    ("The sum of two", " odd numbers is even"),
]


def test_single_requests_at_the_edges(tokenizer, tmp_path):
    lm, hf = both(tokenizer, tmp_path, 64)
    merging, alone = tokenizer.encode("The sum of two"), tokenizer.encode("The sum o")
    assert merging[: len(alone)] != alone  # the boundary lies inside a token
    assert len(tokenizer.encode(PAIRS[10][1])) == 64
    cases = requests("loglikelihood", PAIRS)
    assert_equal_answers(lm.loglikelihood(cases), hf.loglikelihood(cases, disable_tqdm=True))


def test_rolling_texts(tokenizer, tmp_path):
    lm, hf = both(tokenizer, tmp_path, 64)
    texts = [("a",), ("short",), ("a text of several windows, " * 20,), ("日本語 🙂 \n ",), (" " * 9,), ("b" * 64,)]
    cases = requests("loglikelihood_rolling", texts)
    assert_equal_answers(lm.loglikelihood_rolling(cases), hf.loglikelihood_rolling(cases, disable_tqdm=True))
    assert lm.loglikelihood_rolling(requests("loglikelihood_rolling", [("",)])) == [0.0]


GENERATIONS = [
    ("once upon a time", {"until": ["e", "\n"], "max_gen_toks": 30}),
    ("The", {"until": ["."], "max_gen_toks": 30}),
    ("The", {"until": ".", "max_gen_toks": 1}),
    ("a prompt longer than the window " * 20, {"until": ["zz"], "max_gen_toks": 60, "do_sample": False}),
    ("日本", {"until": [], "max_gen_toks": 40}),
    ("ends in space ", {"until": ["the", "an"], "max_gen_toks": 50, "temperature": 0.0}),
]


def test_generated_texts(tokenizer, tmp_path):
    lm, hf = both(tokenizer, tmp_path, 128, num_key_value_heads=1)
    ours = lm.generate_until(requests("generate_until", GENERATIONS))
    assert_equal_answers(ours, hf.generate_until(requests("generate_until", GENERATIONS), disable_tqdm=True))
    assert len(set(map(len, ours))) > 3


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("loglikelihood", ("", ""), "a continuation is empty"),
        ("loglikelihood", ("a", ""), "a continuation is empty"),
        ("loglikelihood", (" ", "a"), "a context has no tokens"),
        ("loglikelihood", ("a", "b c d " * 50), "exceeds the decoder's window of 64"),
        ("generate_until", ("", {"max_gen_toks": 4}), "a prompt is empty"),
        ("generate_until", ("a", {"max_gen_toks": 64}), "leaves no room"),
    ],
)
def test_where_the_hf_backend_crashes_a_request_is_refused(tokenizer, tmp_path, kind, arguments, words):
    lm, hf = both(tokenizer, tmp_path, 64)
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        getattr(hf, kind)(requests(kind, [arguments]))
    with pytest.raises(InputError, match=words):
        getattr(lm, kind)(requests(kind, [arguments]))


def test_a_beginning_of_sequence_token(tokenizer, tmp_path):
    """The `hf` backend adds one where the tokenizer itself does; here the decoder is told of it."""
    decoder = swiglu_decoder(tokenizer.vocab_size, 64)
    hf = hf_backend(decoder, tokenizer, tmp_path, BOS, batch_size=4)
    lm = DecoderLM(decoder, tokenizer, bos_token_id=hf.tokenizer.bos_token_id)
    assert hf.tok_encode("a")[0] == lm.tok_encode("a")[0] == lm.prefix_token_id == hf.prefix_token_id
    pairs = [*PAIRS, (" ", "only space before"), (BOS + "spelt out", " once")]
    cases = requests("loglikelihood", pairs)
    assert_equal_answers(lm.loglikelihood(cases), hf.loglikelihood(cases, disable_tqdm=True))
    rolling = requests("loglikelihood_rolling", [("a text of several windows, " * 20,), ("b",)])
    assert_equal_answers(lm.loglikelihood_rolling(rolling), hf.loglikelihood_rolling(rolling, disable_tqdm=True))
    prompts = [(context, {"until": ["e"], "max_gen_toks": 9}) for context in ("The", "once upon", "")]
    theirs = hf.generate_until(requests("generate_until", prompts), disable_tqdm=True)
    assert_equal_answers(lm.generate_until(requests("generate_until", prompts)), theirs)
    without = DecoderLM(decoder, tokenizer).loglikelihood(cases[:2])
    assert without != lm.loglikelihood(cases[:2])


def test_transformers_own_generation_and_ours(tokenizer, tmp_path):
    import torch

    decoder = swiglu_decoder(tokenizer.vocab_size, 96)
    fast = llama_tokenizer(tokenizer, tmp_path)
    model = llama(decoder, fast.eos_token_id)
    ours, prompts = [[], []], [tokenizer.encode("The city of"), tokenizer.encode("def")]
    for number, token in generate(decoder, prompts, 40, 0.0, 1.0, 0, eos=tokenizer.eos_token_id):
        ours[number].append(token)
    for prompt, continuation in zip(prompts, ours, strict=True):
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)
        assert whole[0].tolist() == prompt + continuation
    lm = DecoderLM(decoder, tokenizer)
    cases = requests("generate_until", [(text, {"until": [], "max_gen_toks": 40}) for text in ("The city of", "def")])
    assert lm.generate_until(cases) == [tokenizer.decode(ids).split(EOS)[0] for ids in ours]
