"""`toxmtl report`: what the page shows, in a browser where there is one."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from helpers import RATE, tone, wav
from moderation_helpers import record
from pyarrow import parquet

from modeling_toxmtl.moderation.report import ReportArguments, encode_mp3, main, read_truth, truth_of, waveform


EVIL = "<img src=x onerror=alert(1)></script><b>.wav"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def records(tmp_path):
    """Four clips, one of whose names is HTML; truth is known of three."""
    clips = [
        record(tmp_path, "a.wav", (0.9, 0.2, 0.1), (("damn", 0.5), ("<i>crap</i>", 1.2))),
        record(tmp_path, EVIL, (0.6, 0.1, 0.3)),
        record(tmp_path, "c.wav", (0.3, 0.7, 0.2)),
        record(tmp_path, "d.wav", (0.1, 0.1, 0.9)),
    ]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    (tmp_path / "truth.csv").write_text("path,labels\na.wav,Profanity\nc.wav,Profanity|Bullying\nd.wav,NoViolation\n")
    return tmp_path


def write(records, **options):
    page = records / "report.html"
    main(ReportArguments(str(records / "v.jsonl"), str(page), **options))
    return page


def test_truth_is_found_by_the_end_of_a_path(records):
    truth = read_truth(str(records / "truth.csv"))
    assert truth_of(str(records / "a.wav"), truth) == ["Profanity"] and truth_of("/else/c.wav", truth) != []
    assert truth_of(str(records / EVIL), truth) is None
    assert truth_of("b/x.wav", {"b/x.wav": [], "x.wav": ["Other"]}) == []  # the longest end counts


def test_waveform_and_sound():
    samples = np.zeros(8000, dtype=np.float32)
    samples[4000:4010] = -0.5
    assert waveform(samples, 4) == [0, 0, 0.5, 0] and waveform(samples[:0]) == []
    assert len(encode_mp3(tone(RATE))) < 10_000


def test_the_page_is_self_contained_and_has_no_html_of_names(records):
    page = write(records).read_text(encoding="utf-8")
    assert EVIL not in page and "\\u003cimg src=x" in page and "<i>crap" not in page
    assert 'src="http' not in page and 'href="http' not in page and "@import" not in page
    assert page.count("</script>") == 3 + 4 and page.count('id="sound-') == 4 and "%%" not in page.split("<script>")[0]


def test_clips_without_their_sound_are_shown(records, capsys):
    (records / "c.wav").unlink()
    (records / "d.wav").write_bytes(wav(tone(100)))
    page = write(records).read_text(encoding="utf-8")
    assert page.count('id="sound-') == 2
    error = capsys.readouterr().err
    assert "c.wav: shown without sound" in error and "d.wav is not the audio of its record" in error
    assert 'id="sound-' not in write(records, max_seconds=0.0).read_text(encoding="utf-8")


def test_wrong_tables(records):
    (records / "other.csv").write_text("path,labels\nx.wav,Profanity\n")
    with pytest.raises(ValueError, match="other.csv names none of the clips"):
        write(records, labels=str(records / "other.csv"))
    parquet.write_table(pa.table({"path": ["a", "b"], "labels": [["Profanity"], None]}), records / "t.parquet")
    for name, content, message in (
        ("t.parquet", None, "t.parquet, row 2: no `labels`"),
        ("t.jsonl", '{"path": "a", "labels": ""}', "t.jsonl, row 1: no `labels`"),
        ("t.csv", "path,labels\na,Profanity\na,NoViolation\n", "t.csv, row 2: a has other labels in a row before"),
    ):
        if content:
            (records / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_truth(str(records / name))
    (records / "v.jsonl").write_text("")
    with pytest.raises(ValueError, match="v.jsonl has no records"):
        write(records)


# --- in a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        chromium = driver.chromium.launch(executable_path=BROWSER, args=options, timeout=120_000)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, records):
    """The page, offline; a console error fails the test."""
    faults = []
    tab = browser.new_page(viewport={"width": 1100, "height": 900}, offline=True)
    tab.set_default_timeout(60_000)
    tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: faults.append("a script of a name ran"))
    tab.goto(write(records, labels=str(records / "truth.csv")).as_uri())
    yield tab
    tab.close()
    assert faults == []


def names(page) -> list[str]:
    return [name.rpartition("/")[2] for name in page.locator("tr.clip button").all_text_contents()]


def set_threshold(page, label: str, value: float) -> None:
    slider = page.locator(f"#threshold-{label}")
    slider.evaluate("(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value)


def counts(page, label: str) -> str:
    return page.locator(f'[data-label="{label}"] .counts').text_content()


def test_names_and_keywords_are_text(page):
    evil = EVIL.replace("/", "_")
    assert names(page) == ["a.wav", "c.wav", evil.rpartition("/")[2], "d.wav"]  # the highest score first
    assert page.locator("#rows img, #rows b, #rows i").count() == 0
    page.get_by_role("button", name="a.wav").click()
    assert page.get_by_role("button", name="<i>crap</i> 1.20 s").is_visible()


def test_sort_and_filter(page):
    page.get_by_role("button", name="Clip", exact=True).click()
    assert names(page)[-1] == "d.wav" and "a.wav" in names(page)[:2]
    page.get_by_role("button", name="Clip", exact=True).click()
    assert names(page)[0] == "d.wav"
    page.locator("th").get_by_role("button", name="Bullying").click()
    assert names(page)[0] == "c.wav"
    assert page.locator('th[data-key="Bullying"]').get_attribute("aria-sort") == "descending"
    page.locator("#search").fill("DAMN")  # a keyword
    assert names(page) == ["a.wav"]
    page.locator("#search").fill("")
    page.locator("#show").select_option("none")
    assert names(page) == ["d.wav"]
    page.locator("#show").select_option("wrong")
    assert names(page) == ["c.wav"]
    assert page.locator("#summary").text_content() == "1 of 4 clips shown; 3 with violations."


def test_thresholds_and_what_follows(page):
    """Of three clips with truth, two have Profanity, and one of them a score of 0.3."""
    assert counts(page, "Profanity") == "right 1, wrong 0, missed 1, clear 1; precision 100\u00a0%, recall 50\u00a0%"
    set_threshold(page, "Profanity", 0.25)
    assert counts(page, "Profanity") == "right 2, wrong 0, missed 0, clear 1; precision 100\u00a0%, recall 100\u00a0%"
    set_threshold(page, "Profanity", 0.05)
    assert counts(page, "Profanity") == "right 2, wrong 1, missed 0, clear 0; precision 67\u00a0%, recall 100\u00a0%"
    assert page.locator("#summary").text_content() == "4 of 4 clips shown; 4 with violations."
    point = page.locator('[data-curve="Profanity"]')
    assert float(point.get_attribute("cx")) == 100 and float(point.get_attribute("cy")) == pytest.approx(100 / 3)
    page.get_by_role("button", name="As in the records").click()
    assert counts(page, "Profanity").startswith("right 1, wrong 0")


CURSOR = "parseFloat(document.querySelector('.wave div').shadowRoot.querySelector('[part=cursor]').style.left)"


def wait_for_play(page, place: float) -> None:
    """Until it plays behind a place, in percent of the clip."""
    for _ in range(300):
        if page.evaluate(CURSOR) > place:
            break
        page.wait_for_timeout(100)
    assert place < page.evaluate(CURSOR) <= 100


def test_play_from_a_keyword(page):
    page.get_by_role("button", name="a.wav").click()
    page.wait_for_selector('.wave [part~="region"]')
    page.get_by_role("button", name="▶ damn 0.50 s").click()
    wait_for_play(page, 26)  # on from a quarter
    assert page.locator(".strip").count() == 2
    regions = page.locator('.wave [part~="region"]')
    assert regions.all_text_contents() == ["damn", "<i>crap</i>"]
    regions.last.click()
    wait_for_play(page, 61)


def focused(page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.textContent")


def tab_to(page, name: str) -> None:
    """Presses Tab until what has this id or text is in focus, which is to be seen."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if name in focused(page):
            break
    assert name in focused(page)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_by_keyboard_alone(page):
    """A threshold, the order, a filter, a clip, a keyword; and back to the list."""
    tab_to(page, "threshold-Profanity")
    page.keyboard.press("Home")
    assert counts(page, "Profanity").startswith("right 2, wrong 1, missed 0")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert page.locator('[data-label="Profanity"] output').text_content() == "0.999"
    tab_to(page, "reset")
    page.keyboard.press("Space")
    assert counts(page, "Profanity").startswith("right 1, wrong 0")
    tab_to(page, "search")
    page.keyboard.type(".wav")
    tab_to(page, "show")
    page.keyboard.type("with v")
    assert page.locator("#summary").text_content() == "3 of 4 clips shown; 3 with violations."
    tab_to(page, "Clip")
    page.keyboard.press("Enter")
    tab_to(page, "a.wav")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.locator('[aria-expanded="true"]').text_content().endswith("a.wav")
    page.wait_for_selector('.wave [part~="region"]')
    tab_to(page, "▶ damn")
    page.keyboard.press("Space")
    wait_for_play(page, 26)
    page.keyboard.press("Escape")
    assert page.locator('[aria-expanded="true"]').count() == 0 and page.locator(".detail").count() == 0
    assert focused(page).endswith("a.wav")  # where one was


def test_on_a_phone(page):
    """Nothing but the table is wider than the screen, all of an open clip is on it, and fingers meet the controls."""
    page.set_viewport_size({"width": 375, "height": 667})
    page.get_by_role("button", name="a.wav").click()
    page.wait_for_selector('.wave [part~="region"]')
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for part in (".wave", ".play", ".words", ".strip svg", "#search", "#show", "#reset", ".threshold input"):
        for box in (element.bounding_box() for element in page.locator(part).all()):
            assert box["x"] >= 0 and box["x"] + box["width"] <= 375, part
    for control in page.locator("button:visible, input, select").all():
        assert control.bounding_box()["height"] >= 24
    page.get_by_role("button", name="▶ <i>crap</i>").click()
    wait_for_play(page, 61)


def test_hundreds_of_clips(page, records):
    """All are listed, and follow a threshold, a search and an order."""
    clip = json.loads((records / "v.jsonl").read_text().splitlines()[0])
    lines = []
    for number in range(600):
        labels = [item | {"score": number / 600} for item in clip["labels"][:1]] + clip["labels"][1:]
        lines.append(json.dumps(clip | {"clip": f"{number:03}.wav", "labels": labels}) + "\n")
    (records / "v.jsonl").write_text("".join(lines))
    page.goto(write(records, max_seconds=0.0).as_uri())
    assert len(names(page)) == 600 and names(page)[0] == "599.wav"
    set_threshold(page, "Profanity", 0.9)
    assert page.locator("#summary").text_content() == "600 of 600 clips shown; 60 with violations."
    page.locator("#show").select_option("violations")
    page.locator("#search").fill("55")
    page.get_by_role("button", name="Clip", exact=True).click()
    assert names(page) == [f"55{number}.wav" for number in range(10)]
    page.get_by_role("button", name="555.wav").click()
    assert page.get_by_text("The sound of this clip is not in the page.").is_visible()
