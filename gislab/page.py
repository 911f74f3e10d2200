"""An HTML page that needs nothing from elsewhere: its frame, its style, its pictures. Pure."""

from __future__ import annotations

from html import escape

FRAME = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem;
         margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; margin: .5rem 0 1.5rem; display: block; overflow-x: auto; }}
  th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #ddd; }}
  .passed {{ color: #00634a; font-weight: 600; }} .failed {{ color: #a33c00; font-weight: 600; }}
  img {{ max-width: 100%; height: auto; }}
{style}</style></head><body><main>
<h1>{title}</h1>
{body}
</main></body></html>
"""


def write(title: str, body: str, *, style: str = "") -> str:
    """Return a whole page under its title.

    Parameters
    ----------
    body : HTML.
    style : more rules of CSS, which come last, and so count where they differ.
    """
    return FRAME.format(title=escape(title), body=body.strip(), style=style)


def image(data: str, alt: str) -> str:
    """Return a picture with its text; `data` is a PNG in base64."""
    return f'<img src="data:image/png;base64,{escape(data.strip())}" alt="{escape(alt)}">'
