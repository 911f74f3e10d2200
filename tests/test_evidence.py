"""When a live test fails, what the services said and what the Pis held is kept, and where."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gislab.shell import Result

HERE = Path(__file__).parent
NAMES = ("tasks", "containers", "events", "addresses", "memory")


@pytest.fixture
def fail(paper, pis, tmp_path, monkeypatch, pytestconfig):
    """Let a test fail, as pytest would; return its report and the folders that were kept."""
    conftest = next(plugin for plugin in pytestconfig.pluginmanager.get_plugins()
                    if getattr(plugin, "__file__", "") == str(HERE / "conftest.py"))
    monkeypatch.setattr(conftest, "EVIDENCE", tmp_path / "failed")
    for words, out in ((("docker", "stack", "ps"), "gis_haproxy.1"), (("docker", "events"), "die"),
                       (("docker", "ps"), "c1 up"), (("docker", "ps", "-aq"), "c1\nc2"),
                       (("ip",), "eth0"), (("free",), "Mem:"),
                       (("docker", "logs"), Result((), 0, "said", " and cried")),
                       (("docker", "inspect"), "/gis_haproxy.1.x4k")):
        pis.answer(*words, out=out)

    def do(*marks, failed=True, when="call"):
        item = SimpleNamespace(name="test_of_maps[a/b]", funcargs={"lab": paper},
                               get_closest_marker=lambda mark: mark in marks or None)
        report = SimpleNamespace(failed=failed, when=when, sections=[])
        hook = conftest.pytest_runtest_makereport(item, None)
        next(hook)
        with pytest.raises(StopIteration):
            hook.send(SimpleNamespace(get_result=lambda: report))
        return report, sorted((tmp_path / "failed").glob("*"))
    return do


@pytest.mark.parametrize("when", ["setup", "call"])
def test_a_failed_live_test_keeps_logs_and_events_of_every_pi_and_says_where(fail, when):
    report, (folder,) = fail("live", when=when)
    assert report.sections == [("evidence", f"logs and events are in {folder}")]
    assert folder.name.endswith("-test_of_maps[a_b]")
    kept = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(kept) == {f"{pi}-{name}.txt" for pi in ("pi1", "pi2", "pi3") for name in NAMES} | {
        f"{pi}-gis_haproxy.1.x4k.log" for pi in ("pi1", "pi2", "pi3")}
    assert kept["pi2-gis_haproxy.1.x4k.log"] == "said and cried"
    assert kept["pi3-events.txt"] == "die"


def test_a_dark_pi_keeps_nothing_and_hinders_no_other(fail, pis):
    pis[1].answers = {("true",): Result((), 255, "", "No route to host")}
    _, (folder,) = fail("live")
    assert {path.name[:3] for path in folder.iterdir()} == {"pi1", "pi3"}


def test_evidence_that_cannot_be_had_does_not_hide_the_failure(fail, pis):
    pis.answer("docker", "ps", "-aq", out=Result((), 1, "", "no such daemon"))
    report, _ = fail("live")
    (title, said), = report.sections
    assert title == "evidence" and "could not be kept" in said and "no such daemon" in said


@pytest.mark.parametrize("marks, how", [((), {}), (("live",), {"failed": False}),
                                        (("live",), {"when": "teardown"})])
def test_what_passes_or_needs_no_lab_keeps_nothing(fail, marks, how):
    report, folders = fail(*marks, **how)
    assert report.sections == [] and folders == []


@pytest.mark.live
def test_the_log_of_an_image_that_is_under_test_is_kept(fail, image, the_engine):
    said = the_engine.containers.run(image("haproxy"), ["-c", "echo a last word"],
                                     entrypoint="sh", detach=True)
    try:
        said.wait()
        _, (folder,) = fail("live")
    finally:
        said.remove(force=True)
    assert (folder / f"{said.name}.log").read_text() == "a last word\n"
