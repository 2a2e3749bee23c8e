"""Takes the pictures of docs/report.md: the report of the example clips, in Chromium.

pip install -e ".[serve,browser]" && playwright install chromium
python docs/draw_report.py model_cards/whisper-tiny-en-toxmtl docs/examples docs
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from modeling_toxmtl.moderation import moderate, report


TRUTH = {"insult": "Bullying", "by_context": "Bullying", "harmless": "NoViolation", "sound_alikes": "NoViolation"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def make_report(model: str, examples: str, folder: Path) -> Path:
    """The page of the example clips, which names them without the folder that they lie in."""
    records, labels, page = (folder / name for name in ("verdicts.jsonl", "labels.csv", "report.html"))
    labels.write_text("path,labels\n" + "".join(f"{name}.ogg,{label}\n" for name, label in TRUTH.items()))
    model = str(Path(model).resolve())
    os.chdir(examples)
    clips = sorted(map(str, Path().glob("*.ogg")))
    moderate.main(moderate.ModerateArguments(model, clips, output=str(records), format="jsonl"))
    report.main(report.ReportArguments(str(records), str(page), labels=str(labels)))
    return page


def take(page: Page, name: str, folder: Path) -> None:
    """A picture of the whole page."""
    page.screenshot(path=folder / f"report_{name}.png", full_page=True, animations="disabled")


def main(model: str, examples: str, pictures: str) -> None:
    """The list of clips, one of them opened, and a threshold moved."""
    folder = Path(pictures).resolve()
    with tempfile.TemporaryDirectory() as work, sync_playwright() as driver:
        address = make_report(model, examples, Path(work)).as_uri()
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] * (os.getuid() == 0))
        page = chromium.new_page(viewport={"width": 1100, "height": 600}, color_scheme="light")
        page.goto(address)
        take(page, "list", folder)
        page.get_by_role("button", name="insult.ogg").click()
        page.wait_for_selector('.wave [part~="region"]')
        page.locator("tr.detail").screenshot(path=folder / "report_clip.png", animations="disabled")
        page.keyboard.press("Escape")
        slider = page.locator("#threshold-Other")
        slider.fill("0.99")
        page.locator("section").first.screenshot(path=folder / "report_threshold.png", animations="disabled")
        chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
