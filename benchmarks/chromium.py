"""Debian's Chromium without a screen or a network of its own."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remid_jax.errors import UserError

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip


@contextlib.contextmanager
def started(*flags: str) -> Iterator[Any]:
    """A Selenium driver of a new browser with an empty profile; its logs hold every request.

    Raises:
      UserError: Chromium, its driver or selenium is missing.
    """
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        raise UserError("Chromium is missing; apt-get install chromium chromium-driver")
    try:
        from selenium import webdriver
    except ImportError:
        raise UserError('selenium is missing; pip install -e ".[browser]"') from None
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", *flags):
            options.add_argument(flag)
        service = webdriver.ChromeService(programs[1])
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield driver
        finally:
            driver.quit()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A driver of a new browser that has opened a file."""
    with started() as driver:
        driver.get(path.absolute().as_uri())
        yield driver
