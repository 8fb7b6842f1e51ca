import collections

import pytest

from lightning_polycom.data.sources.python_stdlib import DOMAINS, iterate_python_stdlib
from lightning_polycom.errors import InputError


@pytest.fixture
def library(tmp_path):
    files = {
        "json/decoder.py": "x = 1\n" * 50,
        "abc.py": "y = 2\n" * 50,
        "empty.py": "\n",
        "notes.txt": "no source",
        "table.py": "0,\n" * 150_000,
        "site-packages/other.py": "z = 3\n",
        "config-3.11/made.py": "z = 3\n",
        "__pycache__/abc.py": "z = 3\n",
        "idlelib/idle_test/test_a.py": "t = 1\n" * 40,
        "pydoc_data/topics.py": "topics = {'while': 'The while statement\\n', 'if': 'The if statement\\n'}\n",
    }
    files |= {f"test/test_{n}.py": f"t = {n}\n" * 20 for n in range(20)}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "test" / "latin.py").write_bytes(b"# \xe9\n")
    return tmp_path


def entries(root=None):
    return [(domain, *entry) for domain in DOMAINS for entry in iterate_python_stdlib(domain, root)]


def test_domains_ids_and_texts(library):
    found = entries(library)
    assert [(d, i) for d, i, _ in found if d != "tests"] == [
        ("library", "abc.py"),
        ("library", "json/decoder.py"),
        ("reference", "topics/if"),
        ("reference", "topics/while"),
    ]
    texts = {i: text for _, i, text in found}
    assert texts["abc.py"] == "y = 2\n" * 50
    assert texts["topics/if"] == "The if statement\n"


def test_tests_are_thinned_out_to_one_and_a_half_times_the_library(library):
    sizes = collections.Counter()
    for domain, _, text in entries(library):
        sizes[domain] += len(text.encode())
    assert sizes["library"] == 600
    assert 700 < sizes["tests"] <= 900
    assert entries(library) == entries(library)


def test_missing_parts_are_absent_and_a_missing_library_is_an_error(library, tmp_path_factory):
    (library / "pydoc_data" / "topics.py").unlink()
    assert {domain for domain, _, _ in entries(library)} == {"library", "tests"}
    with pytest.raises(InputError, match="python_stdlib"):
        entries(tmp_path_factory.mktemp("nothing"))


def test_the_running_python():
    counts = collections.Counter(domain for domain, _, _ in entries())
    assert counts["library"] > 300
    assert counts["reference"] > 50
