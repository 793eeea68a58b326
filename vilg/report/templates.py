"""HTML templates of pages, and pictures inside them. A page is a single file that opens offline."""

import base64
import io

import jinja2
import numpy as np
from PIL import Image


def template(name: str) -> jinja2.Template:
    """A template of this package, with the filters that all templates share."""
    loader = jinja2.PackageLoader("vilg", "report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # JSON keeps the order of keys and all characters
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters |= {
        "percent": lambda x: f"{100 * x:.1f} %",
        "thousands": lambda x: f"{x:,.0f}",
    }
    return environment.get_template(name)


def data_uri(image: np.ndarray) -> str:
    """A picture, uint8 [H, W, 3], as a PNG inside the page."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
