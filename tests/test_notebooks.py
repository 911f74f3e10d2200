"""Every notebook keeps the house's form, and runs from its first cell to its last on the lab."""

import ast
import re
import shutil

import nbformat
import papermill
import pytest

from gislab.settings import PROJECT

BOOKS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
# Small: what is tested is that every cell runs, not how long a Pi takes.
SMALL = {"03": {"points": 5_000, "rows": 5, "seconds": 2},
         "04": {"width": 400, "requests_sent": 12, "seconds": 2},
         "05": {"seconds_before": 2, "seconds_after": 2},
         "06": {"seconds": 2, "rate": 3},
         "07": {"kinds": ["mapserver", "haproxy", "postgis"], "pis": ["pi1"]},
         "08": {"names": ["primary_killed"], "recovery": 10}}

every = pytest.mark.parametrize("book", [nbformat.read(path, as_version=4) for path in BOOKS],
                                ids=[path.stem[:2] for path in BOOKS])


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def text(book):
    return [cell.source for cell in book.cells if cell.cell_type == "markdown"]


def test_the_eight_notebooks_are_there():
    assert [path.stem for path in BOOKS] == [
        "01-build-arm-images", "02-bring-up-the-swarm", "03-replicated-postgis",
        "04-maps-through-the-vip", "05-failover-latency", "06-grow-without-stopping",
        "07-no-single-point-of-failure", "08-the-2016-setup"]


@every
def test_it_is_valid_and_stripped(book):
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in code(book))
    assert not any("raises-exception" in cell.metadata.get("tags", []) for cell in book.cells)


@every
def test_it_opens_with_a_question_its_needs_what_it_leaves_and_its_minutes(book):
    first = book.cells[0]
    assert first.cell_type == "markdown" and re.match(r"# 0\d .*\?", first.source)
    for word in ("**Question.**", "**Needs**", "**Leaves behind**", "**Takes**", "minute"):
        assert word in first.source, word


@every
def test_its_parameters_are_the_first_code_and_are_literals(book):
    tagged = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [code(book)[0]]
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@every
def test_its_cells_are_short(book):
    """Longer code belongs into gislab; no function is longer than a breath."""
    for cell in code(book):
        tree = ast.parse(cell.source)
        assert len(cell.source.splitlines()) <= 16, cell.source
        assert not [n.name for n in ast.walk(tree)
                    if isinstance(n, ast.FunctionDef) and n.end_lineno - n.lineno > 4]


@every
def test_it_explains_shows_and_checks(book):
    sources = [cell.source for cell in code(book)]
    assert sum("check." in source for source in sources) >= 2
    assert any("plt.show" in source or "plot." in source for source in sources)
    assert sum(part.startswith("## ") or "\n## " in part for part in text(book)) >= 4


@every
def test_it_ends_with_checks(book):
    """After them there is at most one look at what was checked."""
    assert any("check." in cell.source for cell in code(book)[-2:])


@every
def test_it_ends_with_what_one_has_an_exercise_and_the_next_title(book):
    last = book.cells[-1].source
    assert last.startswith("## You now have") and "**Exercise.**" in last
    assert "**Next:**" in last or "**The end.**" in last
    following = re.search(r"\*\*Next:\*\* `([^`]+)`", last)
    assert not following or following[1] in [path.stem for path in BOOKS]


@every
def test_it_has_no_path_of_one_machine_and_no_secret(book):
    everything = "\n".join(cell.source for cell in book.cells)
    assert not re.search(r"""["'](/home|/root|/work|/Users|/tmp|~)/""", everything)
    assert "secret(" not in everything and "_password" not in everything.replace(
        "reader_password", "")


@pytest.mark.live
@pytest.mark.timeout(1500, func_only=True)
@pytest.mark.parametrize("path", BOOKS, ids=[path.stem[:2] for path in BOOKS])
def test_it_runs_to_its_end_on_the_standing_lab(path, whole, tmp_path, monkeypatch):
    """In order, each on what the one before left behind; with its own checks."""
    toml = tmp_path / "lab.toml"
    toml.write_text(f'name = "{whole.name}"\nsubnet = "{whole.subnet}"\n'
                    f'map_server = "{whole.map_server}"\n')
    monkeypatch.setenv("GISLAB_LAB", str(toml))
    parameters = dict(SMALL.get(path.stem[:2], {}))
    if path.stem.startswith("01") and not shutil.which("qemu-aarch64-static"):
        parameters["build_arm"] = False  # an ARM build is tested where emulation is at hand
    out = tmp_path / path.name
    papermill.execute_notebook(path, out, parameters, kernel_name="python3", cwd=path.parent,
                               progress_bar=False, log_output=False, execution_timeout=1200)
    ran = nbformat.read(out, as_version=4)
    said = "".join(o.text for c in code(ran) for o in c.outputs if o.output_type == "stream")
    assert said.count("ok: ") >= 2 and "Traceback" not in said
    assert any("image/png" in o.get("data", {}) for c in code(ran) for o in c.outputs)
