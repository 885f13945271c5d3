"""Opening pages in a headless Chromium, if this machine has one."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here (Debian: apt install chromium)")

FLAGS = (
    "--headless",
    "--no-sandbox",  # tests run as root in CI
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--window-size=1200,900",
)


def dom_after(page: str, script: str, folder: Path, flags=()) -> str:
    """The document, as HTML, after the browser has loaded `page` and run `script` at its end.

    `script` is a test's: it can drive the page by events and note what it sees, in attributes of document.body, say.
    Nothing of it is in pages that users get. What goes wrong in a script ends up in `data-errors` of the body.
    """
    head, end, tail = page.rpartition("</body>")
    assert end, "a page has a body"
    # Pictures are drawn at once: when frames come is the browser's affair.
    at_once = "window.requestAnimationFrame = function (draw) { draw(0); return 0; };"
    errors = "document.body.dataset.errors = (document.body.dataset.errors || '') + (event.message || event);"
    opening = f"<script>{at_once}addEventListener('error', function (event) {{ {errors} }})</script>"
    begun = head.replace("<body>", "<body>" + opening, 1)
    assert begun != head
    file = folder / "page.html"
    file.write_text(f"{begun}<script>{script}</script></body>{tail}", encoding="utf-8")
    process = subprocess.Popen(
        [
            PROGRAM,
            *FLAGS,
            *flags,
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            file.as_uri(),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "HOME": str(folder)},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=100)
    finally:
        try:  # its helpers too, whatever became of it
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    assert process.returncode == 0, err.decode(errors="replace")
    return out.decode()
