"""The picture of the report in README, made anew: `python -m tests.docs.picture` (takes the system's Chromium)."""

from __future__ import annotations

import hashlib
import io
import shutil
from typing import Literal

from PIL import Image, PngImagePlugin
from playwright.sync_api import sync_playwright

from tests.docs.markdown import ROOT

REPORT = ROOT / "reports" / "sample" / "report.html"
PICTURES = ROOT / "docs" / "pictures"
COLOURS: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
LARGEST_BYTES = 200_000
# What a reader sees first of the page.
_WIDTH, _HEIGHT = 1280, 1060
_LEVELS = 64
_DIGEST = "report"


def digest_of_report() -> str:
    """What tells this report from another."""
    return hashlib.sha256(REPORT.read_bytes()).hexdigest()


def digest_of_picture(colours: str) -> str:
    """Of which report a picture is."""
    with Image.open(PICTURES / f"report-{colours}.png") as picture:
        return str(picture.info.get(_DIGEST))


def main() -> None:
    """Take both pictures."""
    noted = PngImagePlugin.PngInfo()
    noted.add_text(_DIGEST, digest_of_report())
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=shutil.which("chromium")) as browser,
    ):
        for colours in COLOURS:
            page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme=colours)
            page.goto(REPORT.as_uri())
            taken = Image.open(io.BytesIO(page.screenshot()))
            # Flat colours and text: a palette is a third of the size, and looks the same.
            taken.convert("RGB").quantize(_LEVELS, dither=Image.Dither.NONE).save(
                PICTURES / f"report-{colours}.png", optimize=True, pnginfo=noted
            )


if __name__ == "__main__":
    main()
