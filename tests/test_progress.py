"""A bar appears where somebody looks, and nowhere else."""

import io

import nbformat
from nbclient import NotebookClient

from gislab.progress import Bar


def test_a_bar_is_drawn_only_where_somebody_looks_and_after_a_moment(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    monkeypatch.setattr("sys.stderr", seen := Terminal())
    with Bar("loading t", None) as bar:
        bar(1, 10)
        assert seen.getvalue() == ""
        monkeypatch.setattr("gislab.progress.MOMENT", -1)
        bar(5, 10)
        bar(10, 10)
    assert "loading t" in seen.getvalue() and "10 of 10 rows" in seen.getvalue()
    monkeypatch.setattr("sys.stderr", unseen := io.StringIO())
    with Bar("loading t", None) as bar:
        bar(5, 10)
    assert unseen.getvalue() == ""


def test_a_callers_own_progress_takes_the_place_of_the_bar():
    told = []
    with Bar("loading t", lambda *far: told.append(far)) as bar:
        bar(5, 10)
    with Bar("loading t", False) as bar:
        bar(6, 10)
    assert told == [(5, 10)]


def test_a_notebook_has_a_bar_of_its_own_and_no_warning():
    """IPython's: rich's would ask for ipywidgets."""
    code = """
        from gislab import progress
        progress.MOMENT = -1
        with progress.Bar("loading t") as bar:
            for done in range(0, 11, 5):
                bar(done, 10)
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        "\n".join(line[8:] for line in code.splitlines()))])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = notebook.cells[0].outputs
    assert [one.output_type for one in shown] == ["display_data"]
    assert "10/10" in shown[0].data["text/plain"] and "<progress" in shown[0].data["text/html"]
