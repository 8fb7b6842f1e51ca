"""The page in a real browser, on a phone's and a desktop's width."""

import json
import re
import shutil
import subprocess

import pytest
from synthetic_runs import write_comparison

from lightning_polycom.comparison.arms import check_arms
from lightning_polycom.comparison.gathering import gather
from lightning_polycom.comparison.report.content import report_of
from lightning_polycom.comparison.report.write import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome, which is not installed")
# The page in a frame of the width, and what is measured of it as JSON.
FRAME = """<body><iframe src="out/report.html" style="width:%dpx;height:900px;border:0"></iframe><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, frame = document.querySelector("iframe");
  const figures = [...page.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect());
  const text = page.querySelector("figure svg text");
  document.body.textContent = "RESULT" + JSON.stringify({
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    columns: new Set(figures.map((box) => Math.round(box.left))).size,
    narrowest: Math.min(...figures.map((box) => box.width)),
    lowest: Math.min(...figures.map((box) => box.height)),
    text: frame.contentWindow.getComputedStyle(text).fill,
    page: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
  }) + "END";
};</script>"""


def measure(folder, width: int, dark: bool) -> dict:
    (folder / "frame.html").write_text(FRAME % width)
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--window-size=1500,1000", "--virtual-time-budget=5000", "--dump-dom", f"file://{folder / 'frame.html'}",
    ]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return json.loads(re.search("RESULT(.*?)END", out)[1])


def test_page_on_phone_and_desktop_light_and_dark(tmp_path):
    source = write_comparison(tmp_path / "c", {"a long name of an arm": [4.0, 4.1], "polyrelu": [3.9, 4.0]}, "polyrelu")
    gathered = gather([str(source)])
    write_report(report_of(check_arms(gathered.runs, "polyrelu", "parameters"), "c"), tmp_path / "out")
    phone, desktop = measure(tmp_path, 390, dark=False), measure(tmp_path, 1280, dark=True)
    for found in (phone, desktop):
        assert found["overflow"] <= 0, "tables scroll in themselves, the page does not scroll sideways"
        assert found["lowest"] > 100
    assert phone["columns"] == 1 and phone["narrowest"] > 300
    assert desktop["columns"] == 3
    assert (phone["page"], desktop["page"]) == ("rgb(255, 255, 255)", "rgb(17, 20, 24)")
    assert (phone["text"], desktop["text"]) == ("rgb(22, 25, 29)", "rgb(232, 234, 237)")
