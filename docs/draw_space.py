"""Takes the pictures of the page to try: a clip on a desk, the keyword list, and a telephone in the dark, in Chromium.

pip install -e ".[space,browser]" && playwright install chromium
python docs/draw_space.py docs
"""

import os
import shutil
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "space"))

from app import CSS, RELEASED, THEME, build  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

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


def take(page: Page, name: str, folder: Path) -> None:
    """A picture of what is to be seen."""
    path = folder / f"space_{name}.png"
    page.screenshot(path=path, animations="disabled")
    Image.open(path).convert("RGB").quantize(COLORS).save(path, optimize=True)


def main(pictures: str) -> None:
    """Serves the page with the released model, and takes the pictures."""
    folder = Path(pictures).resolve()
    blocks = build(Judge(load_judge(str(RELEASED))))
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, theme=THEME, css=CSS, footer_links=[])
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] * (os.getuid() == 0))
        page = visit(chromium, address, (1200, 900), "light")
        take(page, "clip", folder)
        page.set_viewport_size({"width": 1200, "height": 710})  # of the list, no more than its head
        page.get_by_role("tab", name="Keywords").click()
        page.get_by_label("Word or phrase").fill("you")
        page.get_by_role("button", name="Add or change").click()
        page.get_by_role("button", name="▶ you").first.wait_for()
        page.wait_for_timeout(1500)
        take(page, "keywords", folder)
        take(visit(chromium, address, (390, 844), "dark"), "phone", folder)
        chromium.close()
    blocks.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
