"""The report in a headless browser, where Chromium is installed; its text everywhere."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from jvrc.evaluation import peers, plots, report, summary
from jvrc.evaluation.measure import Coder

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
CURVE = np.array([[0.1, 28.0], [0.25, 30.5], [0.5, 33.0], [1.0, 36.0]])


@pytest.fixture(scope="module")
def page():
    rng = np.random.default_rng(0)
    jpeg = peers.peer("jpeg")

    def encode(img, quality):
        return jpeg.encode(img, int(quality))

    ours = Coder("ours</script>", "1", "qstep", (50.0,), encode, peers.decode)
    comparisons = []
    for i, shape in enumerate(((64, 96, 3), (48, 48, 3))):
        img = rng.integers(0, 256, shape, dtype=np.uint8)
        comparisons.append(report.compare(f"{i}.png", img, [ours], 50.0, [jpeg]))
    found = {"ours": CURVE, "JPEG & co": CURVE * [1.25, 1]}
    pairs = summary.bd_rates(found, "psnr")
    plot = plots.rd_plot({"psnr": found}, ["ours"], [], "title")
    return report.page("<two> images", {"machine": "a & b"}, [], pairs, plot, comparisons)


def test_the_page_is_complete_and_names_are_escaped(page):
    assert "http:" not in page
    assert "https:" not in page
    assert "<h1>&lt;two&gt; images</h1>" in page
    assert "a &amp; b" in page
    assert "JPEG &amp; co" in page
    assert re.search(r'<span title="28\.00 … 36\.00: 100 % of the [^>]*>-20\.0</span>', page)
    assert page.count("</script>") == 2


def test_a_peer_gets_no_more_bytes_than_ours(page):
    text = re.search(r'id="comparisons">(.*?)</script>', page, re.DOTALL)[1]
    for comparison in json.loads(text):
        original, ours, jpeg = comparison["versions"]
        assert original["bytes"] is None
        assert jpeg["bytes"] <= ours["bytes"]
        assert jpeg["psnr"] == pytest.approx(ours["psnr"])  # it is the same codec


PROBE = """<script>
window.addEventListener("load", () => {
  const $ = (id) => document.getElementById(id), seen = {};
  const look = () => [$("over").style.clipPath, $("edge").style.left,
    $("left-caption").textContent, $("right-caption").textContent];
  const wait = () => new Promise((done) => setTimeout(done, 200));
  const send = (id, type, value) => { $(id).value = value; $(id).dispatchEvent(new Event(type)); };
  (async () => {
    await wait();
    seen.start = look(); seen.size = [$("under").naturalWidth, $("under").naturalHeight];
    send("split", "input", 20); seen.slider = look();
    const box = $("stage").getBoundingClientRect();
    $("stage").dispatchEvent(new PointerEvent("pointerdown",
      {clientX: box.left + box.width * 0.75, clientY: box.top + 5, buttons: 1}));
    seen.drag = look();
    send("left", "change", 0); seen.original = look();
    send("zoom", "change", 2); seen.width = $("stage").style.width;
    $("next").click(); await wait();
    seen.next = look(); seen.nextSize = [$("over").naturalWidth, $("over").naturalHeight];
    seen.name = $("image").selectedOptions[0].textContent;
    const out = document.createElement("pre");
    out.id = "seen"; out.textContent = JSON.stringify(seen); document.body.append(out);
  })();
});
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_slider_compares_two_versions_in_a_browser(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", PROBE))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">"))
    assert seen["start"][:2] == ["inset(0px 0px 0px 50%)", "calc(50% - 1px)"]
    assert seen["start"][2].startswith("ours</script>, qstep 50, ")
    assert seen["start"][3].startswith("JPEG, ")
    assert seen["size"] == [96, 64]
    assert seen["slider"][0] == "inset(0px 0px 0px 20%)"
    assert float(re.search(r"([\d.]+)%", seen["drag"][0])[1]) == pytest.approx(75, abs=0.2)
    assert seen["original"][2] == "original"
    assert seen["width"] == "192px"
    assert seen["next"][2] == "original"  # what was chosen stays
    assert (seen["name"], seen["nextSize"]) == ("1.png", [48, 48])
