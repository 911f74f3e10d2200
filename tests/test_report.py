"""The report: executed notebooks as pages that need no network and hold no secret."""

import base64
import html
import json
import re
import shutil
import subprocess

import nbformat
import pytest
from nbformat import v4

from gislab import engine, export, redaction, report, settings

PICTURE = """
from gislab import plot, run
plot.outages([run.make([("maps", 0.1, 0.01, "ok")], settings={"kind": "virtual"})])
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path / "home"))
    made = settings.make({"name": "reported", "map_server": "mapserver"})
    for name in settings.SECRETS:
        made.secret(name)
    return made


def notebook(folder, name, *cells):
    """A notebook of markdown (texts that begin with #) and code cells."""
    node = v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python",
                                                    "language": "python"}})
    node.cells = [v4.new_markdown_cell(c) if c.startswith("#") else v4.new_code_cell(c)
                  for c in cells]
    folder.mkdir(exist_ok=True)
    nbformat.write(node, folder / name)


def written(lab, tmp_path, **how):
    """Write the report of tmp_path/notebooks; return exit code, folder and index."""
    code = report.write(lab, out=tmp_path / "reports", notebooks=tmp_path / "notebooks",
                        say=lambda text: None, **how)
    [folder] = (tmp_path / "reports").iterdir()
    return code, folder, (folder / "index.html").read_text()


def test_a_report_shows_every_notebook_and_a_failed_one_as_failed(lab, tmp_path):
    """A failing notebook is shown, the others run all the same, and the exit code tells."""
    books = tmp_path / "notebooks"
    notebook(books, "01-good.ipynb", "# A good one", "print('ok: one')\nprint('ok: two')", PICTURE)
    notebook(books, "02-bad.ipynb", "# A bad one", "raise ValueError('planted <b>failure</b>')")
    notebook(books, "03-after.ipynb", "# One after", "print('ok: three')")
    code, folder, index = written(lab, tmp_path)
    assert code == 1
    assert "2 of 3 notebooks passed" in index
    assert "planted &lt;b&gt;failure" in index and "A bad one" in index
    assert index.count("&#10003; passed") == 2 and index.count("&#10007; FAILED") == 1
    assert "<td class=n>2</td>" in index  # checks passed in the first
    assert "MapServer" in index and lab.platform in index and "papermill" in index
    pages = sorted(p.name for p in folder.glob("*.html"))
    assert pages == ["01-good.html", "02-bad.html", "03-after.html", "index.html"]
    for page in folder.glob("*.html"):
        assert export.external(page.read_text()) == [], f"{page.name} needs the network"
    images = re.findall(r"<img[^>]*>", (folder / "01-good.html").read_text() + index)
    assert len(images) == 2 and all(re.search(r'alt="[^"]{10,}"', i) for i in images)


def test_a_secret_in_an_output_is_redacted_everywhere_and_fails_the_report(lab, tmp_path):
    password, gossip = lab.secret("gis_password"), lab.secret("consul_gossip_key")
    notebook(tmp_path / "notebooks", "01-leak.ipynb", "# Leaky", f"print('dsn {password}')",
             f"print({gossip!r})",
             f"import base64; print(base64.b64encode(b'lab:{password}').decode())")
    code, folder, index = written(lab, tmp_path)
    assert code == 1 and "gis_password" in index and "consul_gossip_key" in index
    for path in folder.iterdir():
        text = path.read_text()
        assert password not in text and gossip not in text, path.name
        inner = base64.b64encode(f"lab:{password}".encode()).decode()[8:-4]
        assert inner not in text, path.name
    assert redaction.REDACTED in (folder / "01-leak.html").read_text()


def test_a_secret_in_an_error_is_not_told_by_the_verdict_either(lab, tmp_path):
    password = lab.secret("reader_password")
    notebook(tmp_path / "notebooks", "01-x.ipynb", f"raise ValueError('password={password}')")
    code, folder, index = written(lab, tmp_path)
    assert code == 1 and all(password not in p.read_text() for p in folder.iterdir())
    assert redaction.REDACTED in index


def test_parameters_reach_their_notebook_and_only_chooses(lab, tmp_path):
    books = tmp_path / "notebooks"
    notebook(books, "01-a.ipynb", "raise SystemError('must not run')")
    notebook(books, "02-b.ipynb", "assert n == 7")
    code, folder, _ = written(lab, tmp_path, only=["02"], parameters={"02-b": {"n": 7}})
    assert code == 0 and not (folder / "01-a.html").exists()


# Everything that is wide: what a table, a line, a picture and an error may look like.
WIDE = [PICTURE, "import pandas as pd\npd.DataFrame([['x' * 30] * 20] * 2)",
        "print('word ' * 500)", "print('x' * 3000)",
        "from matplotlib import pyplot as plt\nplt.subplots(figsize=(30, 2));",
        "raise ValueError('y' * 3000)"]
# Tells what is wider than the page: any figure, and what one cannot even scroll in.
LOOK = """<script>
const scrolls = e => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) ||
                           scrolls(e.parentElement));
const width = document.documentElement.clientWidth;
const wide = [...document.body.querySelectorAll("*")].filter(e =>
    e.getBoundingClientRect().right > width + 1 &&
    (e.tagName == "IMG" || !scrolls(e.parentElement)));
document.documentElement.setAttribute("data-seen", JSON.stringify(
    {all: document.body.querySelectorAll("*").length,
     wide: wide.map(e => e.outerHTML.slice(0, 200))}));
</script>"""


def chromium():
    """Return where a Chromium is on this machine; None if nowhere."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                                "google-chrome"))), None)


@pytest.fixture
def seen(request, tmp_path):
    """A function from a page and a width to what a browser finds: their number, the wide ones.

    Where every test has to run, the browser is installed.
    """
    if chromium() is None and request.config.getoption("--need-live"):
        engine.install("chromium")
    if chromium() is None:
        pytest.skip("there is no Chromium on this machine")

    def look(page, width):
        looked = tmp_path / "looked.html"
        before, end, after = page.rpartition("</body>")
        looked.write_text(before + LOOK + end + after)
        done = subprocess.run([chromium(), "--headless=new", "--no-sandbox", "--disable-gpu",
                               "--disable-background-networking", "--disable-component-update",
                               f"--user-data-dir={tmp_path / 'browser'}",
                               f"--window-size={width},900", "--dump-dom", looked.as_uri()],
                              capture_output=True, text=True, timeout=120)
        found = re.search(r'data-seen="([^"]*)"', done.stdout)
        assert found, done.stderr[-500:]
        return json.loads(html.unescape(found[1]))
    return look


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory):
    """The report of a notebook in which everything is wide."""
    folder = tmp_path_factory.mktemp("wide")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GISLAB_HOME", str(folder / "home"))
        notebook(folder / "notebooks", "01-wide.ipynb", "# A wide one\n" + "z" * 300, *WIDE)
        made = settings.make({"name": "reported", "map_server": "mapserver"})
        return written(made, folder)[1]


@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("name", ["index.html", "01-wide.html"])
def test_nothing_on_a_page_is_wider_than_the_page(wide_report, seen, name, width):
    """No figure is clipped, no table and no line leads out of it."""
    found = seen((wide_report / name).read_text(), width)
    assert found["all"] > 30 and found["wide"] == []


def test_what_is_wider_than_its_page_is_found(seen):
    page = "<body><p>a</p><div style='overflow-x: auto'><i style='display:block;width:9999px'>" \
           "b</i></div><b style='display:block; width: 9999px'>c</b></body>"
    found = seen(page, 800)
    assert len(found["wide"]) == 1 and found["wide"][0].startswith("<b ")


def test_no_notebook_is_an_error_that_names_those_there_are(lab, tmp_path):
    notebook(tmp_path / "notebooks", "01-a.ipynb", "1")
    with pytest.raises(FileNotFoundError, match="there are 01-a"):
        written(lab, tmp_path, only=["09"])


@pytest.mark.parametrize("html", [
    '<script src="https://cdn.example/x.js"></script>',
    '<link rel="stylesheet" href="https://cdn.example/x.css">',
    '<img src="figures/a.png">', '<img srcset="https://x.example/a.png 2x">',
    "<style>@import 'https://x.example/a.css';</style>",
    "<style>p { background: url(https://x.example/a.png) }</style>",
    '<p style="background: url(//x.example/a.png)"></p>',
    '<script type="module">import m from "https://cdn.example/m.mjs";</script>',
    '<iframe src="https://x.example"></iframe>', '<video src="a.mp4"></video>'])
def test_whatever_a_browser_would_fetch_is_found(html):
    assert len(export.external(html)) == 1


def test_links_to_click_on_and_embedded_data_are_no_fetches():
    assert export.external('<a href="https://example.org">x</a><img src="data:image/png;base64,">'
                           '<a href="#top"></a><style>p { fill: url(#a) }</style>') == []


def test_a_page_that_would_need_the_network_is_refused():
    node = v4.new_notebook(cells=[v4.new_code_cell("1", outputs=[v4.new_output(
        "display_data", {"text/html": '<img src="https://tiles.example/1.png">'})])])
    with pytest.raises(export.ExportError, match=r"tiles\.example"):
        export.page(node, "x")


def test_the_private_key_of_the_lab_is_among_its_secrets(lab):
    body = "b3BlbnNzaC1rZXk\nQyNTUxOQAAACDplanted\n"
    (lab.home / "id_ed25519").write_text(f"-----BEGIN X-----\n{body}-----END X-----\n")
    (lab.home / "id_ed25519.pub").write_text("ssh-ed25519 public\n")
    secrets = redaction.secrets(lab)
    assert "QyNTUxOQAAACDplanted" in secrets.values()
    assert set(settings.SECRETS) < set(secrets)
    assert redaction.redact("key QyNTUxOQAAACDplanted", secrets) == (
        "key [redacted]", ["id_ed25519 line 2"])


def test_a_text_without_secrets_is_left_as_it_is(lab):
    assert redaction.redact("nothing here", redaction.secrets(lab)) == ("nothing here", [])
