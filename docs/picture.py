"""docs/ask.png: the page of a finished run, asked one question, with the cited passage marked in its document.

    python docs/picture.py --run runs/demo "For how long is the gel rubbed in?"

Needs Playwright and a Chromium (FIELDWISE_CHROMIUM names one that is not on the path).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main() -> None:
    """Serve the run, ask, click the citation, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--compare", action="store_true", help="base and tuned side by side")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("ask.png"))
    options = parser.parse_args()
    command = [sys.executable, "-m", "fieldwise", "serve", "--run", str(options.run), "--port", "0"]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        address = next(word for line in service.stdout for word in line.split() if word.startswith("http"))
        with sync_playwright() as started:
            browser = started.chromium.launch(
                executable_path=os.environ.get("FIELDWISE_CHROMIUM") or shutil.which("chromium"),
                args=["--no-sandbox", "--disable-gpu"],
            )
            page = browser.new_page(viewport={"width": 1280, "height": 760})
            page.goto(address)
            page.wait_for_selector("[data-testid=state][data-state=ready]", timeout=60000)
            if options.compare:
                page.get_by_test_id("compare").check(force=True)
            page.get_by_test_id("question").fill(options.question)
            page.get_by_test_id("ask").click()
            page.wait_for_selector("[data-testid=citation]", timeout=60000)
            page.get_by_test_id("citation").first.click()
            page.get_by_test_id("mark").first.wait_for()
            page.wait_for_timeout(1500)  # the document glides to its mark
            page.screenshot(path=options.out)
            browser.close()
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    main()
