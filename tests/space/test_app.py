"""The page in headless Chromium, where there is one: `space/app.py`."""

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from helpers import RATE


gradio = pytest.importorskip("gradio", reason="gradio is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
WAIT = 60_000  # milliseconds, on a machine that is busy
GRADIOS_OWN = (
    "Waveform load error",  # of its player, for a file that no browser plays
    "Failed to load resource",  # the same, as the browser says it
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")]


@pytest.fixture(scope="module")
def address(judge):
    """Of the page, served from this process."""
    from app import CSS, THEME, build

    blocks = build(judge)
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, theme=THEME, css=CSS)
    yield url
    blocks.close()


@pytest.fixture(scope="module")
def browser(insult, tmp_path_factory):
    """A browser whose microphone hears an insult, again and again."""
    path = tmp_path_factory.mktemp("microphone") / "insult.wav"
    sound = np.concatenate([insult.samples, np.zeros(2 * RATE)])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", None))
        file.writeframes(np.rint(32767 * sound).astype("<i2").tobytes())
    fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *fakes]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=BROWSER, args=[*options, f"--use-file-for-fake-audio-capture={path}"], timeout=WAIT
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """A fresh visitor; a console error fails the test, but those that are Gradio's own."""
    faults = []
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    tab.set_default_timeout(WAIT)
    tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(address)
    tab.get_by_text("Voice toxicity").wait_for()
    yield tab
    tab.close()
    assert [fault for fault in faults if not fault.startswith(GRADIOS_OWN)] == []


def upload(page, path) -> None:
    page.locator("input[type=file]").first.set_input_files(path)


def verdict(page, text: str):
    return page.locator(".toxmtl.verdict", has_text=text).first


def set_threshold(page, label: str, value: float) -> None:
    number = page.locator(f"#threshold-{label} input[type=number]")
    number.fill(str(value))
    number.press("Enter")


def test_a_clip_is_judged_and_its_record_can_be_had(page):
    upload(page, EXAMPLES / "insult.ogg")
    verdict(page, "Bullying").wait_for()
    assert page.locator(".toxmtl.wave rect").count() == 2
    assert page.locator(".toxmtl.wave .word").all_text_contents() == ["shut up", "idiot"]
    page.get_by_text("Without its keywords").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the decision record").click()
    record = json.loads(download.value.path().read_text())
    assert record["violations"] == ["Bullying"] and record["clip"] == "insult.ogg"


def played(page) -> tuple[float, float]:
    """Where the player of the excerpt is, and how long that is; zeros without one."""
    times = "sounds => sounds.filter(sound => sound.duration).map(sound => [sound.currentTime, sound.duration])"
    players = page.locator("#excerpt audio").evaluate_all(times)  # a locator sees into the player's shadow
    return tuple(players[0]) if players else (0.0, 0.0)


def test_play_from_a_keyword_twice(page):
    page.get_by_text("insult.ogg").click()  # an example
    for _ in range(2):
        page.get_by_role("button", name="▶ idiot").click()
        wait_until(page, lambda: played(page)[0] < 0.5)
        wait_until(page, lambda: played(page)[0] > 0.5)  # it plays by itself
        assert played(page)[1] == pytest.approx(1.577, abs=0.01)  # from 0.2 s before the word to the end


def wait_until(page, holds) -> None:
    for _ in range(WAIT // 50):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come about")


def test_a_threshold_flips_the_verdict_and_back(page):
    page.get_by_text("insult.ogg").click()
    verdict(page, "Bullying").wait_for()
    set_threshold(page, "Bullying", 1)
    verdict(page, "No violation").wait_for()
    assert page.locator(".toxmtl.score.raised").count() == 0 and page.locator(".toxmtl.wave rect.benign").count() == 2
    page.get_by_role("button", name="The model's thresholds").click()
    verdict(page, "Bullying").wait_for()


def test_an_added_word_is_found_and_a_wrong_one_is_refused(page):
    page.get_by_text("harmless.ogg").click()
    verdict(page, "0 keywords").wait_for()
    page.get_by_role("tab", name="Keywords").click()
    page.get_by_label("Word or phrase").fill("ladder")
    page.get_by_role("button", name="Add or change").click()
    page.get_by_role("button", name="▶ ladder").wait_for()
    page.get_by_label("Also written").fill("idiot")
    page.get_by_role("button", name="Add or change").click()
    page.get_by_text("already is a spelling of 'idiot'").wait_for()
    page.get_by_role("button", name="Remove", exact=True).click()
    verdict(page, "0 keywords").wait_for()


def test_a_row_of_the_list_fills_the_form(page):
    page.get_by_role("tab", name="Keywords").click()
    page.get_by_text("crap", exact=True).filter(visible=True).first.click()
    wait_until(page, lambda: page.get_by_label("Word or phrase").input_value() == "crap")
    assert "crappy" in page.get_by_label("Also written").input_value()


def test_a_bad_file_says_why(page, tmp_path):
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(b"this is no sound")
    upload(page, bad)
    verdict(page, "bad.mp3 cannot be heard: the file cannot be read as audio").wait_for()


def test_the_live_microphone(page):
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("speech started").filter(visible=True).first.wait_for()  # the table measures hidden copies
    page.get_by_text("idiot at").filter(visible=True).first.wait_for()
    verdict(page, "Bullying").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    verdict(page, "The microphone is off.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the decision records").click()
    records = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert "idiot" in [word["keyword"] for record in records for word in record["keywords"]]


def test_on_a_phone_in_the_dark(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.get_by_text("insult.ogg").click()
    verdict(page, "Bullying").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    lightness = "color => color.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)"
    text, ground = (
        page.evaluate(f"({lightness})(getComputedStyle(document.querySelector('{where}')).{what})")
        for where, what in ((".toxmtl.score", "color"), ("body", "backgroundColor"))
    )
    assert text > ground + 300
    page.close()
