"""Turn an executed notebook into one HTML file that needs no network. Pure."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import nbformat
from jinja2 import DictLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode

# JupyterLab's template without the scripts that it takes from a CDN (require.js, MathJax,
# Mermaid), with the lab's own words and with a text for every image.
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block extra_css %}
<style>
  main { max-width: 76rem; margin: 0 auto; }
  .jp-RenderedImage img { max-width: 100%; height: auto; }
  .jp-OutputArea-output { overflow-x: auto; }
  .jp-RenderedText pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  nav.report { font: 15px/1.5 system-ui, sans-serif; padding: 1rem 5rem 0; }
</style>
{% endblock %}
{% block body_header %}{{ super() }}
<nav class="report"><a href="index.html">Back to the report</a></nav>{% endblock %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output" tabindex="0">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
     alt="{{ output | get_metadata('alt', 'image/png') | escape_html }}">
</div>
{%- endblock data_png %}
"""


class ExportError(RuntimeError):
    """A page would need the network, or hold a secret; the text says what."""


def page(notebook: NotebookNode, title: str) -> str:
    """Return the executed notebook as one self-contained HTML page.

    Raises
    ------
    ExportError : something on the page would be fetched from elsewhere.
    """
    notebook = described(notebook)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["title"] = title
    exporter = HTMLExporter(extra_loaders=[DictLoader({"report.html.j2": TEMPLATE})],
                            template_file="report.html.j2", embed_images=True)
    html, _ = exporter.from_notebook_node(notebook)
    wanted = external(html)
    if wanted:
        raise ExportError(f"{title}: would be fetched from elsewhere: {', '.join(wanted[:5])}; "
                          "draw it in the notebook instead")
    return html


def described(notebook: NotebookNode) -> NotebookNode:
    """Return a copy in which every image has a text: its own, else the heading above it."""
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    heading = "the notebook"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#+\s+(.+)$", cell.source, re.MULTILINE)
            heading = found[-1] if found else heading
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                metadata = output.setdefault("metadata", {}).setdefault("image/png", {})
                metadata.setdefault("alt", f"Figure: {heading}")
    return notebook


def external(html: str) -> list[str]:
    """Name what a browser would fetch to show the page: everything but data: and anchors."""
    return _Wanted(html).found


class _Wanted(HTMLParser):
    """Collects the addresses that a page loads by itself (a link to click on is none)."""

    LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src",
             "audio": "src", "embed": "src", "object": "data", "link": "href", "image": "href",
             "use": "href", "input": "src"}

    def __init__(self, html: str):
        super().__init__()
        self.found: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self._inside = tag
        address = attributes.get(self.LOADS.get(tag, ""))
        if address and not address.startswith(("data:", "#")):
            self.found.append(f"{tag} {address[:120]}")
        for candidate in (attributes.get("srcset") or "").split(","):
            if candidate.strip() and not candidate.strip().startswith("data:"):
                self.found.append(f"{tag} {candidate.strip()[:120]}")
        self._style(attributes.get("style") or "")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "style":
            self._style(data)
        elif self._inside == "script":
            self.found += [f"script {url}" for url in re.findall(
                r"""(?:import|from|src\s*=|fetch\()\s*["'](https?://[^"']+)""", data)]

    def _style(self, css: str):
        for address in re.findall(r"""url\(\s*["']?([^"')]+)""", css):
            if not address.startswith(("data:", "#")):
                self.found.append(f"style {address[:120]}")
        self.found += [f"style {url}" for url in re.findall(r"""@import\s+["']([^"']+)""", css)]
