"""Self-contained HTML pages: nothing is fetched, and whatever a name holds is shown as text."""

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jinja2 import Environment

# Up to so many pixels a side, every pixel may matter: digits and maps stay as they are.
_EXACT = 64


def render(template: str, **values: Any) -> str:
    """Return a page.

    Names, labels and messages are escaped wherever a template puts them; a value that the template wants and does not
    get is an error. The page forbids the browser to load anything from anywhere (its content security policy).

    Args:
      template: a file of the folder `templates`, without `.html.jinja`.
      **values: what it shows; pictures as `embedded` returns them.
    """
    return _environment().get_template(f"{template}.html.jinja").render(**values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # 0.1 s, wanted by pages alone

    return Environment(
        loader=PackageLoader("train.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def encoded(html: str) -> bytes:
    """Return a page as a file; of a name that is no text, bytes are written with backslashes."""
    return html.encode(errors="backslashreplace")


def embedded(file: bytes) -> str:
    """Return a PNG, JPEG or SVG file as a `data:` address."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg" if file.startswith(b"\xff\xd8") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def image_file(pixels: np.ndarray) -> bytes:
    """Return an image uint8 `[H, W, C]` of 1 or 3 channels as a file: a small one exactly (PNG), others as JPEG."""
    file = io.BytesIO()
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    if max(image.size) <= _EXACT:
        image.save(file, "png", optimize=True)
    else:
        image.save(file, "jpeg", quality=85)
    return file.getvalue()
