"""A report in a browser: nothing in the console, no request, no sideways scrolling, tables that sort."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from xfer2 import Prediction
from xfer2.report import write_report

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1280,900", "--dump-dom",
         "--enable-logging=stderr"]
RANDOM = np.random.default_rng(0)
CLASSES = np.array([f"a_class_with_a_long_name_{number}" for number in range(12)])
PREDICTION = Prediction(RANDOM.dirichlet(np.full(12, 0.3), 120), CLASSES,
                        [f"folder/{'deeper/' * 12}{number}.png" for number in RANDOM.permutation(120)])
SORT = """
const table = [...document.querySelectorAll("table")].pop(), heads = [...table.tHead.rows[0].cells];
const column = name => heads.findIndex(head => head.textContent === name);
const seen = name => [...table.tBodies[0].rows].map(row => row.cells[column(name)].textContent);
const told = {};
for (const [name, key] of [["confidence", "up"], ["confidence", "down"], ["id", "names"]]) {
  heads[column(name)].querySelector("button").click();
  told[key] = {values: seen(name), sorted: heads.map(head => head.getAttribute("aria-sort"))};
}
console.log("TOLD" + JSON.stringify(told) + "END");
"""
SIZE = """
console.log("TOLD" + JSON.stringify({inner: innerWidth, scroll: document.documentElement.scrollWidth,
  wide: [...document.querySelectorAll("figure")].map(one => one.getBoundingClientRect().width),
  ink: getComputedStyle(document.querySelector("figure svg text")).fill}) + "END");
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, title="A_title_without_a_single_space_that_is_long_enough_to_leave_a_phone", prediction=PREDICTION,
                 sections={"The data": {"a/name/" * 20: "a/folder/" * 40}}, labels=RANDOM.choice(CLASSES, 120),
                 images=lambda rows: {row: np.full((30, 40), 100, np.uint8) for row in rows},
                 features=RANDOM.normal(size=(120, 5)), reproduce="xfer2 predict " + "--option value " * 40)
    return path


def browse(path, *flags):
    """What the console said, and the addresses the page asked for."""
    log, profile = path.with_suffix(".net.json"), path.with_suffix(".profile")
    done = subprocess.run([CHROMIUM, *FLAGS, *flags, f"--log-net-log={log}", f"--user-data-dir={profile}", path.as_uri()],
                          capture_output=True, text=True, timeout=120, check=True)
    assert "<title>" in done.stdout or "<iframe" in done.stdout
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return ([line for line in done.stderr.splitlines() if ":CONSOLE" in line],
            [one["url"] for one in asked if one["initiator"] != "not an origin"])  # else the browser's own housekeeping


def with_script(report, name, script):
    copy = report.with_name(name)
    text = report.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>")
    copy.write_text(text, encoding="utf-8")
    return copy


def told(console):
    return json.loads(re.search(r"TOLD(.*)END", "\n".join(console))[1])


def test_it_says_nothing_to_the_console_and_asks_for_nothing(report):
    console, asked = browse(report)
    assert console == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_a_request_would_be_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<title>a</title><img src="http://127.0.0.1:9/a.png"><script>console.log("a")</script>')
    console, asked = browse(page)
    assert len(console) == 1
    assert "http://127.0.0.1:9/a.png" in asked


def test_the_policy_refuses_what_a_report_does_not_need(report):
    console, asked = browse(with_script(report, "asks.html", "new Image().src = 'http://127.0.0.1:9/a.png'"))
    assert any("Content Security Policy" in line for line in console)
    assert not [url for url in asked if url.startswith("http")]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(report, width):
    copy = with_script(report, f"size{width}.html", SIZE)
    frame = report.with_name(f"frame{width}.html")  # a window cannot be as narrow as a phone, a frame can
    frame.write_text(f'<iframe src="{copy.name}" style="border:0; width:{width}px; height:800px"></iframe>')
    size = told(browse(frame)[0])
    assert size["inner"] == width
    assert size["scroll"] <= width
    assert min(size["wide"]) > 0.85 * 390 if width == 390 else max(size["wide"]) < 1280 / 2  # one column, or several


@pytest.mark.parametrize(("theme", "flags"), [("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])])
def test_plots_follow_the_theme(report, theme, flags):
    ink = told(browse(with_script(report, f"{theme}.html", SIZE), *flags)[0])["ink"]
    shade = np.mean([int(part) for part in re.findall(r"\d+", ink)[:3]])
    assert shade > 200 if theme == "dark" else shade < 60


def test_a_click_on_a_header_sorts(report):
    found = told(browse(with_script(report, "sort.html", SORT))[0])
    confidence = sorted(PREDICTION.confidence)
    assert found["up"]["values"] == [f"{one:.4f}" for one in confidence]
    assert found["down"]["values"] == [f"{one:.4f}" for one in confidence[::-1]]
    assert found["names"]["values"] == sorted(PREDICTION.ids, key=lambda name: int(re.search(r"\d+", name)[0]))
    assert [one for one in found["up"]["sorted"] if one] == ["ascending"]
    assert [one for one in found["down"]["sorted"] if one] == ["descending"]
    assert found["names"]["sorted"][0] == "ascending"
