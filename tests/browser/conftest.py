"""A real browser without a network, and every page opened in it held to that."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from configs import base
from tests.train.report import photos
from train.loop import train

# A folder's name cannot hold a slash.
PROGRAM = "<script>alert(1)<"

# Chromium looks for updates and for proxies; none of that belongs to a page.
_ALONE = (
    "--headless=new",
    "--no-sandbox",  # of the browser, which does not start as root with it
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,1000",
)

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Any]:
    from selenium import webdriver

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in (*_ALONE, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def browse(_chromium: Any) -> Iterator[Open]:
    """Opens a page from disk, `browse(path, dark=False, width=1280)`, and returns Selenium's driver.

    When the test ends, the console must be empty, and nothing but the page itself must have been asked for.
    """
    opened: list[Path] = []
    _chromium.execute_cdp_cmd("Network.enable", {})
    _chromium.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )

    def browse(path: Path, *, dark: bool = False, width: int = 1280) -> Any:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        _chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        _chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        opened.append(path)
        _chromium.get(path.as_uri())
        return _chromium

    yield browse
    console = _chromium.get_log("browser")
    events = [json.loads(entry["message"])["message"] for entry in _chromium.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    ours = {path.as_uri() for path in opened}
    assert console == []
    # chrome: is the browser's own, of the tab that it begins with.
    elsewhere = [url for url in asked if not url.startswith(("data:", "blob:", "chrome:"))]
    assert [url for url in elsewhere if url.partition("#")[0] not in ours] == []


def train_on_photos(folder: Path, *, report: bool) -> Path:
    """Train on photos of two classes, one called like a program, and return the run folder."""
    root = photos.folder_of(folder / "photos")
    for role in ("train", "test"):
        (root / role / "bees").rename(root / role / PROGRAM)
    config: ConfigDict = base.get_config()
    config.dataset.update(source=f"folder:{root}", image_size=32, validation=0.0)
    config.train.update(epochs=2.0, batch_size=8)
    config.evaluate.report = report
    train(config, folder / "run")
    return folder / "run"
