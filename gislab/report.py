"""Run all notebooks in order and keep what they showed: one index, one page each."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from . import export, images, page, redaction
from .settings import PROJECT, Lab

NOTEBOOKS = PROJECT / "notebooks"
PACKAGES = ("gislab", "geopandas", "httpx", "jupyterlab", "matplotlib", "nbconvert", "owslib",
            "papermill", "psycopg")
# A kernel over a socket file, not over TCP, where any user of this machine could listen.
PRIVATE = Config({"KernelManager": {"transport": "ipc"}})


@dataclass(frozen=True)
class Verdict:
    """How one notebook went. `said` is empty when it passed."""

    name: str
    title: str
    passed: bool
    minutes: float
    checks: int
    said: str = ""


def write(lab: Lab, *, out: str | Path = "reports", only: list[str] | None = None,
          parameters: dict | None = None, notebooks: str | Path = NOTEBOOKS, say=print) -> int:
    """Run the notebooks in order, write `<out>/<time>/index.html`, return 0 if all passed.

    A notebook that fails is shown as failed, and the next ones are run all the same: they ask
    for what they need themselves.

    Parameters
    ----------
    only : beginnings of notebooks' names, e.g. ["03", "05"].
    parameters : notebook name -> its parameters, where not its defaults.
    """
    sources = sorted(Path(notebooks).glob("[0-9][0-9]-*.ipynb"))
    chosen = [s for s in sources if not only or s.name.startswith(tuple(only))]
    if not chosen:
        raise FileNotFoundError(f"no notebook {' or '.join(only or ['at all'])} in {notebooks}; "
                                "there are " + ", ".join(s.stem for s in sources))
    begin = time.monotonic()
    folder = Path(out) / datetime.datetime.now().strftime("%Y%m%dT%H%M%S")
    folder.mkdir(parents=True)
    verdicts, picture = [], ""
    try:
        for number, source in enumerate(chosen, 1):
            say(f"notebook {number} of {len(chosen)}: {source.stem}")
            verdict, last = _notebook(lab, source, folder, (parameters or {}).get(source.stem, {}))
            verdicts.append(verdict)
            picture = last or picture
            say(f"notebook {number} of {len(chosen)}: {source.stem}: "
                + (f"passed, {verdict.checks} checks" if verdict.passed
                   else f"FAILED: {verdict.said.splitlines()[0][:300]}")
                + f", {verdict.minutes:.1f} min")
    finally:  # also when it is interrupted: what has been run can be looked at
        html = _index(lab, verdicts, chosen, picture, (time.monotonic() - begin) / 60)
        html, leaked = redaction.redact(html, redaction.secrets(lab))
        (folder / "index.html").write_text(html, encoding="utf-8")
        say(f"report: {folder / 'index.html'}")
    return 0 if all(v.passed for v in verdicts) and not leaked else 1


def _notebook(lab: Lab, source: Path, folder: Path, parameters: dict) -> tuple[Verdict, str]:
    """Run one notebook and write its page; return the verdict and its last picture."""
    begin = time.monotonic()
    problems = []
    # Run in a folder of its own: what may hold a secret never comes near the report.
    with tempfile.TemporaryDirectory() as scratch:
        ran = Path(scratch) / source.name
        try:
            papermill.execute_notebook(source, ran, parameters, kernel_name="python3",
                                       cwd=source.parent, log_output=False, config=PRIVATE,
                                       progress_bar=sys.stderr.isatty(), execution_timeout=3600)
        except PapermillExecutionError as error:
            problems.append(f"{error.ename}: {error.evalue}")
        except Exception as error:  # a kernel that died, a notebook that is none
            problems.append(f"{type(error).__name__}: {error}")
        if not ran.exists():
            shutil.copy(source, ran)
        text, leaked = redaction.redact(ran.read_text(), redaction.secrets(lab))
    problems += [f"showed the secret {name}; it was redacted here, now change it: "
                 f"gislab down, rm -r ~/.gislab/{lab.name}, then gislab up" for name in leaked]
    node = nbformat.reads(text, as_version=4)
    title = _title(node, source.stem)
    try:
        html, leaked = redaction.redact(export.page(node, title), redaction.secrets(lab))
        problems += [f"its page showed the secret {name}" for name in leaked]
        (folder / f"{source.stem}.html").write_text(html, encoding="utf-8")
    except export.ExportError as error:
        problems.append(str(error))
    (folder / source.name).write_text(text)
    said, _ = redaction.redact("\n".join(problems), redaction.secrets(lab))
    return Verdict(source.stem, title, not problems, (time.monotonic() - begin) / 60,
                   checks_passed(node), said), _last_picture(node)


def checks_passed(node: nbformat.NotebookNode) -> int:
    """Count the lines `ok: ...` that the notebook's checks printed."""
    return sum(line.startswith("ok: ")
               for cell in node.cells for output in cell.get("outputs", [])
               if output.output_type == "stream" for line in output.text.splitlines())


def _title(node: nbformat.NotebookNode, otherwise: str) -> str:
    for cell in node.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0][2:].strip()
    return otherwise


def _last_picture(node: nbformat.NotebookNode) -> str:
    found = [(o.data["image/png"], o.get("metadata", {}).get("image/png", {}).get("alt", ""))
             for cell in node.cells for o in cell.get("outputs", [])
             if "image/png" in o.get("data", {})]
    if not found:
        return ""
    data, alt = found[-1]
    return page.image(data, alt or "Figure of the last notebook")


def _index(lab: Lab, verdicts: list[Verdict], chosen: list[Path], picture: str,
           minutes: float) -> str:
    passed = sum(v.passed for v in verdicts)
    rows = [f"<tr><td><a href='{v.name}.html'>{escape(v.title)}</a></td>"
            f"<td class='{'passed' if v.passed else 'failed'}'>"
            f"{'&#10003; passed' if v.passed else '&#10007; FAILED'}</td>"
            f"<td class=n>{v.minutes:.1f}</td><td class=n>{v.checks}</td>"
            f"<td>{escape(v.said[:600])}</td></tr>" for v in verdicts]
    rows += [f"<tr><td>{escape(s.stem)}</td><td class=failed>&#10007; not run</td>"
             "<td></td><td></td><td>interrupted before it</td></tr>"
             for s in chosen[len(verdicts):]]
    facts = {
        "lab": f"{lab.name}, {len(lab.machines)} {'virtual' if lab.kind == 'virtual' else 'real'}"
               f" Pis ({lab.kind})",
        "maps by": {"mapserver": "MapServer", "geoserver": "GeoServer"}[lab.serves],
        "platform": lab.platform,
        "VIP": f"{lab.vip} in {lab.subnet}",
        "this machine": f"{platform.machine()}, {os.cpu_count()} processors, "
                        f"Python {platform.python_version()}",
        "written": datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
    }
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return page.write(f"Report of the lab {lab.name}", BODY.format(
        passed=passed, count=len(chosen), minutes=f"{minutes:.1f}",
        verdict="passed" if passed == len(chosen) else "failed", rows="\n".join(rows),
        facts=_pairs(facts), versions=_pairs(versions), images=_images(lab),
        picture=f"<h2>What a fault costs</h2>{picture}" if picture else ""), style=STYLE)


def _images(lab: Lab) -> str:
    try:
        table = images.table(lab)
    except Exception as error:  # the report is written even if the engine is gone
        return f"<p>not known: {escape(str(error)[:300])}</p>"
    return table.to_html(index=False, border=0, float_format=lambda x: f"{x:.1f}")


def _pairs(facts: dict[str, str]) -> str:
    return "\n".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>"
                     for k, v in facts.items())


STYLE = """\
  body { max-width: 66rem; }
  th, td { padding: .35rem .8rem; vertical-align: top; overflow-wrap: break-word;
           max-width: 26rem; }
  td.n { text-align: right; }
  .passed, .failed { white-space: nowrap; }
"""
BODY = """
<p class="{verdict}">{passed} of {count} notebooks passed, in {minutes} minutes.</p>
<h2>Notebooks</h2>
<table><thead><tr><th>notebook</th><th>verdict</th><th>minutes</th><th>checks passed</th>
<th>what went wrong</th></tr></thead><tbody>
{rows}
</tbody></table>
{picture}
<h2>Lab</h2><table>{facts}</table>
<h2>Versions</h2><table>{versions}</table>
<h2>Images</h2>
{images}
"""
