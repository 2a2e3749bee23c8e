"""Takes the pictures of the page to try, in Chromium: a clip on a desk, the keyword list, the live microphone, and a
telephone in the dark.

pip install -e ".[space,browser]" && playwright install chromium
python docs/draw_space.py docs
"""

import os
import shutil
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "space"))

from app import CSS, EXAMPLES, RELEASED, THEME, build  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from modeling_toxmtl.audio import SAMPLING_RATE, load_audio  # noqa: E402
from modeling_toxmtl.moderation.hearing import load_judge  # noqa: E402
from modeling_toxmtl.moderation.judge import Judge  # noqa: E402


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
COLORS = 128  # of a picture, which makes it small


def visit(browser: Browser, address: str, size: tuple[int, int], colors: str) -> Page:
    """The page with the verdict on an example."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=colors)
    page.goto(address)
    page.get_by_text("insult.ogg").click()
    page.get_by_role("button", name="▶ idiot").wait_for()
    page.get_by_text("Without its keywords").wait_for()
    page.wait_for_timeout(1500)  # the player draws
    return page


def speak_into(page: Page, address: str) -> None:
    """The live microphone, while an insult is heard."""
    page.goto(address)
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("idiot at").filter(visible=True).first.wait_for()
    page.locator(".toxmtl.verdict", has_text="Bullying").first.wait_for()


def take(page: Page, name: str, folder: Path) -> None:
    """A picture of what is to be seen."""
    path = folder / f"space_{name}.png"
    page.screenshot(path=path, animations="disabled")
    Image.open(path).convert("RGB").quantize(COLORS).save(path, optimize=True)


def write_microphone(path: Path) -> None:
    """What Chromium takes for a microphone, over and over: an insult and a pause."""
    samples = np.append(load_audio(EXAMPLES / "insult.ogg"), np.zeros(2 * SAMPLING_RATE))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLING_RATE, 0, "NONE", None))
        file.writeframes(np.rint(32767 * samples).astype("<i2").tobytes())


def main(pictures: str) -> None:
    """Serves the page with the released model, and takes the pictures."""
    folder = Path(pictures).resolve()
    blocks = build(Judge(load_judge(str(RELEASED))))
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, theme=THEME, css=CSS, footer_links=[])
    with tempfile.TemporaryDirectory() as work, sync_playwright() as driver:
        write_microphone(Path(work, "microphone.wav"))
        fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        fakes.append(f"--use-file-for-fake-audio-capture={work}/microphone.wav")
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=[*fakes, *["--no-sandbox"] * (os.getuid() == 0)]
        )
        page = visit(chromium, address, (1200, 900), "light")
        take(page, "clip", folder)
        page.set_viewport_size({"width": 1200, "height": 710})  # of the list, no more than its head
        page.get_by_role("tab", name="Keywords").click()
        page.get_by_label("Word or phrase").fill("you")
        page.get_by_role("button", name="Add or change").click()
        page.get_by_role("button", name="▶ you").first.wait_for()
        page.wait_for_timeout(1500)
        take(page, "keywords", folder)
        page.set_viewport_size({"width": 1200, "height": 1000})
        speak_into(page, address)
        take(page, "live", folder)
        take(visit(chromium, address, (390, 844), "dark"), "phone", folder)
        chromium.close()
    blocks.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
