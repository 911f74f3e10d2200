"""What tests share: one virtual lab for all live tests, and the images by name."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

import hypothesis
import pytest
from recorded import CLUSTER, Pis, said

from gislab import claim, cluster, engine, images, nodes, settings, virtual
from gislab.shell import Recorded

EVIDENCE = Path(__file__).parent.parent / "reports" / "failed-tests"
TEST_LAB = {"name": "gislab-test", "subnet": "172.30.99.0/24"}


def pytest_addoption(parser):
    parser.addoption("--need-live", action="store_true",
                     help="a live test that cannot run is a failure, not a skip")
    parser.addoption("--need-geoserver", action="store_true",
                     help="the same for tests that need GeoServer's WAR")
    parser.addoption("--long", action="store_true",
                     help="run the longer ones of the fault tests, too")
    parser.addoption("--keep-lab", action="store_true",
                     help="leave the lab of the live tests standing")


def pytest_collection_modifyitems(config, items):
    """Pure tests first: a typing error shows in seconds, not after the lab is up.

    Then those that need containers but no lab, before one stands and takes the processors' time.
    """
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; --long runs it"))
    items.sort(key=lambda item: (item.get_closest_marker("arm") is not None,
                                 item.get_closest_marker("live") is not None,
                                 "lab" in item.fixturenames))


@pytest.fixture
def paper(tmp_path, monkeypatch):
    """A lab that is only written down, with a home of its own."""
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GISLAB_GEOSERVER_WAR", raising=False)
    monkeypatch.delenv("GISLAB_GEOSERVER_VERSION", raising=False)
    return settings.make({"map_server": "mapserver"})


@pytest.fixture
def pis(paper, monkeypatch):
    """Three Pis that only remember what they are told, in the place of real ones."""
    remotes = Pis(Recorded({("true",): ""}, name=m.name) for m in paper.machines)
    monkeypatch.setattr(nodes, "all", lambda lab: [
        nodes.Node(m.name, m.address, remote)
        for m, remote in zip(lab.machines, remotes, strict=True)])
    return remotes


@pytest.fixture
def three(pis):
    """Three recorded Pis, each with its member's container."""
    for number, remote in enumerate(pis, start=1):
        remote.answers["docker", "ps"] = f"c{number} gis_postgis{number}"
        remote.answers["docker", "exec", f"c{number}", "bash"] = said(CLUSTER)
    return pis


@pytest.fixture(autouse=True)
def _no_lab_left_in_the_environment(monkeypatch):
    """`gislab --lab FILE` tells its notebooks by the environment; the next test must not hear."""
    monkeypatch.setenv("GISLAB_LAB", "")


@pytest.fixture(autouse=True)
def _no_engine_for_a_pure_test(request, monkeypatch, tmp_path):
    """A pure test finds no engine, also where one runs: it is the same on every machine."""
    if not any(map(request.node.get_closest_marker, ("live", "arm"))):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")


@pytest.fixture(scope="session")
def the_engine(request):
    """The container engine, started where that is possible."""
    try:
        return engine.ensure()
    except engine.EngineError as error:
        if request.config.getoption("--need-live"):
            pytest.fail(f"no container engine: {error}")
        pytest.skip(f"no container engine: {error}")


@pytest.fixture(scope="session")
def lab_facts() -> dict:
    """What a lab.toml would say of the lab of the live tests."""
    return TEST_LAB


@pytest.fixture(scope="session")
def image(the_engine):
    """A function from an image's name to its tag; builds it when it is not there."""
    lab = settings.make(TEST_LAB)

    def build(name: str) -> str:
        return images.build(lab, [name]).tag[0]
    return build


@pytest.fixture(scope="session")
def own_lab(the_engine, lab_facts, request):
    """The lab of the live tests as this pytest's alone; nothing of it stands but by --keep-lab.

    A pytest that was killed, or its machine, leaves a lab in any state: in a restore, with a
    fault in it. That is taken down, as its own end would have done.
    """
    made = settings.make(lab_facts)
    with claim.held(made.home / "tests.lock", RuntimeError(
            f"another pytest has the lab {made.name}; wait for its end")):
        if not request.config.getoption("--keep-lab"):
            cluster.down(made)
        yield made


@pytest.fixture(scope="session")
def lab(own_lab, request):
    """The virtual lab of the live tests, whole; removed at the end unless --keep-lab."""
    cluster.up(own_lab)
    yield own_lab
    if not request.config.getoption("--keep-lab"):
        cluster.down(own_lab)
        assert virtual.leftovers(own_lab) == []


@pytest.fixture
def whole(lab):
    """The lab, everything answering before the test."""
    cluster.ready(lab)
    return lab


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep the logs of services and images, and each Pi's state, when a live test fails."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and report.when in ("setup", "call") and item.get_closest_marker("live"):
        try:
            folder = _keep(item)
            report.sections.append(("evidence", f"logs and events are in {folder}"))
        except Exception as error:  # the test's own failure must be the one that is told
            report.sections.append(("evidence", f"could not be kept: {error}"))


def _keep(item) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S")
    folder = EVIDENCE / f"{stamp}-{item.name[:60].replace('/', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    lab = item.funcargs.get("lab") or settings.make(TEST_LAB)

    def look(node: nodes.Node) -> None:
        for name, words in (
                ("tasks", ["docker", "stack", "ps", "--no-trunc", "gis"]),
                ("containers", ["docker", "ps", "-a"]),
                ("events", ["docker", "events", "--since", "10m", "--until", "0s"]),
                ("addresses", ["ip", "addr"]),
                ("memory", ["free", "-m"])):
            done = node.run(words, check=False, timeout=20)
            (folder / f"{node.name}-{name}.txt").write_text(done.out + done.err)
        for container in node.docker("ps", "-aq", timeout=20).split():
            done = node.run(["docker", "logs", "--tail", "200", container], check=False)
            title = node.docker("inspect", "--format", "{{.Name}}", container).strip("/")
            (folder / f"{node.name}-{title[:50]}.log").write_text(done.out + done.err)

    nodes.each(lab, look, nodes.alive(lab))
    with contextlib.suppress(engine.EngineError):  # real Pis need no engine on this machine
        for container in engine.client().containers.list(all=True, ignore_removed=True):
            if container.attrs["Config"]["Image"].startswith("gislab/"):
                (folder / f"{container.name}.log").write_bytes(container.logs(tail=200))
    return folder


# Live tests share two cores with a lab: slow is no failure of a pure test.
hypothesis.settings.register_profile("lab", deadline=None)
hypothesis.settings.load_profile("lab")
