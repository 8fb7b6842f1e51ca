import pytest
import torch
from small_decoders import Text

from lightning_polycom.analysis import probe_windows
from lightning_polycom.analysis.probe_windows import ProbeWindows
from lightning_polycom.errors import InputError


def rows(windows: ProbeWindows) -> list[list[int]]:
    return [row.tolist() for number in range(len(windows)) for row in windows.read(number).input_ids]


def test_equal_parts_of_whole_windows_spread_over_each_domain(monkeypatch):
    monkeypatch.setattr(probe_windows, "BATCH_TOKENS", 40)
    one, two, short = Text(1000, 1), Text(100, 2), Text(7, 3)
    windows = ProbeWindows({"one": one, "two": two, "short": short}, 16, 200)
    found = rows(windows)
    # 67 tokens of each domain: 5 windows of 62 that there are, 5 of 6, and what the last one has.
    starts = [0, 12 * 16, 24 * 16, 37 * 16, 49 * 16]
    expected = [one.read(start, 16).tolist() for start in starts]
    expected += [two.read(16 * number, 16).tolist() for number in (0, 1, 2, 3, 4)]
    assert found == [*expected, short.read(0, 7).tolist()]
    assert windows.num_tokens == 167 and [len(windows.read(n).input_ids) for n in range(3)] == [2, 2, 1]


def test_no_more_than_there_is():
    text = Text(50)
    windows = ProbeWindows({"text": text}, 16, 10_000)
    assert rows(windows) == [text.read(start, 16).tolist() for start in (0, 16, 32)]


def test_positions_where_documents_are_kept_apart():
    windows = ProbeWindows({"text": Text(400)}, 16, 400, separate_documents=True)
    ids, positions = windows.read(0)
    assert (ids == 0).any()
    begins = torch.nn.functional.pad(ids[:, :-1] == 0, (1, 0), value=True)
    assert torch.equal(positions == 0, begins)
    assert ProbeWindows({"text": Text(400)}, 16, 400).read(0).positions is None


def test_no_domain_is_one_line():
    with pytest.raises(InputError, match=r"^data: no validation domain"):
        ProbeWindows({}, 16, 100)
