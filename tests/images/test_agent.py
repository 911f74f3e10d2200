"""The agent beside a map server: what is published arrives there, and nothing else does."""

from __future__ import annotations

import threading
from dataclasses import replace

import httpx
import pytest

from gislab import catalog, consul
from gislab.wait import NotYet, until

from . import serving as helper

pytestmark = pytest.mark.live
RED = ('<StyledLayerDescriptor version="1.1.0" xmlns="http://www.opengis.net/sld" '
       'xmlns:se="http://www.opengis.net/se"><NamedLayer><se:Name>x</se:Name><UserStyle>'
       '<se:FeatureTypeStyle><se:Rule><se:PolygonSymbolizer><se:Fill>'
       '<se:SvgParameter name="fill">#ff0000</se:SvgParameter></se:Fill></se:PolygonSymbolizer>'
       '</se:Rule></se:FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>')


@pytest.fixture(scope="module")
def small():
    """A catalog whose tables are all there."""
    whole = catalog.default()
    return replace(whole, layers=(whole.layer("alive"), whole.layer("countries")))


@pytest.fixture(scope="module")
def servers(serving, small):
    serving.publish(small)
    return [serving.map_server("mapserver", f"m{i}", publish=False) for i in range(2)]


@pytest.fixture
def urls(serving, servers):
    return [serving.healthy(server) for server in servers]


def land(cat: catalog.Catalog, colour: str) -> catalog.Catalog:
    return cat.with_style(catalog.Style("land", "polygon", (catalog.Rule("land", fill=colour),)))


def middle(url: str) -> list[int]:
    """Return the colour of the map's middle, 0 to 255."""
    return helper.pixel(helper.picture(url, "countries"))


def publish(serving, cat) -> tuple[int, list[str]]:
    said = []
    return catalog.publish(serving.lab, cat, say=said.append, timeout=60), said


def test_what_is_published_is_served_by_every_server(serving, urls, small):
    """publish returns when both hold it; the next map of each is drawn by it."""
    number, said = publish(serving, land(small, "#0000ff"))
    assert [middle(url) for url in urls] == [[0, 0, 255]] * 2
    assert sum(f"holds version {number} after" in line for line in said) == 2
    table = catalog.status(serving.lab)
    assert table["state"].tolist() == ["current"] * 2
    assert table["version"].tolist() == [number] * 2 and table["hash"].nunique() == 1
    assert {httpx.get(f"{url}/catalog").text for url in urls} == set(table["hash"])


def test_a_new_version_does_not_wait_for_the_next_round(serving, urls, small):
    """A question to Consul lasts 5 s when nothing happens; a new version ends it at once."""
    seconds = []
    for colour in ("#00ff00", "#0000ff", "#00ff00"):
        _, said = publish(serving, land(small, colour))
        seconds += [float(line.split("after ")[1].split()[0]) for line in said if "after" in line]
    assert len(seconds) == 6 and sorted(seconds)[2] < 4  # a busy machine may have delayed some


def test_a_style_of_sld_1_1_is_drawn(serving, urls, small):
    """What QGIS writes is drawn as it says."""
    publish(serving, small.with_style(catalog.Style("land", "polygon", sld=RED)))
    assert [middle(url) for url in urls] == [[255, 0, 0]] * 2


def test_a_rollback_brings_the_old_pictures_back(serving, urls, small):
    before, _ = publish(serving, land(small, "#0000ff"))
    publish(serving, land(small, "#00ff00"))
    catalog.rollback(serving.lab, before, say=lambda text: None)
    assert [middle(url) for url in urls] == [[0, 0, 255]] * 2
    table = catalog.versions(serving.lab).set_index("version")
    assert table["current"][before] == "current" and (table["current"] != "").sum() == 1
    assert catalog.status(serving.lab)["version"].tolist() == [before] * 2
    assert catalog.current(serving.lab) == land(small, "#0000ff")


def test_no_map_is_lost_or_half_drawn_while_versions_change(serving, urls, small):
    """Each map is drawn by the old version or by the new one, whole."""
    publish(serving, land(small, "#0000ff"))
    done, seen = threading.Event(), []

    def ask():
        while not done.is_set():
            seen.append(helper.picture(urls[0], "countries"))
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for colour in ("#00ff00", "#0000ff", "#00ff00", "#0000ff"):
            publish(serving, land(small, colour))
    finally:
        done.set()
        asking.join()
    assert [answer for answer in seen if not helper.is_png(answer)] == []
    assert {tuple(helper.pixel(answer)) for answer in seen} == {(0, 0, 255), (0, 255, 0)}


def test_a_version_that_the_server_cannot_read_is_refused_and_the_old_one_served(
        serving, urls, small, monkeypatch):
    """The publisher hears why, in the server's own words; nobody sees a broken map."""
    good, _ = publish(serving, land(small, "#0000ff"))
    with monkeypatch.context() as patch:
        patch.setattr(catalog.bundle.mapserver, "TYPES", {"polygon": "HYPERCUBE",
                                                          "point": "POINT"})
        with pytest.raises(catalog.CatalogError, match="refuses version .* and serves "
                           f"{good}: .*HYPERCUBE.*Next: gislab rollback"):
            publish(serving, replace(small, title="bad"))
    assert [middle(url) for url in urls] == [[0, 0, 255]] * 2
    table = catalog.status(serving.lab)
    assert table["version"].tolist() == [good] * 2
    assert table["state"].str.startswith("refuses").all()
    catalog.rollback(serving.lab, good, say=lambda text: None)
    assert catalog.status(serving.lab)["state"].tolist() == ["current"] * 2


def test_parts_that_do_not_have_their_hash_are_not_served(serving, urls, small):
    """Whoever could write a part could otherwise have anything served."""
    good, _ = publish(serving, small)
    with serving.store() as store:
        entry = store.get(catalog.CURRENT)
        wrong = "0" * 64
        store.put(f"{catalog.PARTS}{wrong}/0", b"anything")
        store.put(catalog.CURRENT, f"99 {wrong} 1\n".encode())
        until(lambda: states(serving, "loads 99: its parts cannot be read"), what="a complaint",
              timeout=10)
        assert catalog.status(serving.lab)["version"].tolist() == [good] * 2
        store.put(catalog.CURRENT, entry.value)
    until(lambda: states(serving, "current"), what="current again", timeout=10)


def test_a_server_without_consul_serves_on_and_catches_up(serving, servers, urls, small):
    """Maps do not need Consul; what was published meanwhile arrives when it is back."""
    publish(serving, land(small, "#0000ff"))
    serving.consul.kill("SIGSTOP")
    try:
        until(lambda: says(servers[0], "waiting for Consul at "), what="a word about it",
              timeout=40)
        assert middle(urls[0]) == [0, 0, 255] and helper.health(urls[0]) == 200
    finally:
        serving.consul.kill("SIGCONT")
    publish(serving, land(small, "#00ff00"))
    assert [middle(url) for url in urls] == [[0, 255, 0]] * 2


def test_a_new_server_without_consul_waits_says_so_and_serves_only_with_a_catalog(
        serving, urls, small):
    """An empty or old catalog is never shown."""
    serving.consul.kill("SIGSTOP")
    try:
        new = serving.map_server("mapserver", "new", publish=False)
        until(lambda: says(new, "waiting for Consul at "), what="a word about it", timeout=40)
        url = f"http://{serving.address(new)}:8080"
        assert helper.health(url) == 503 and httpx.get(f"{url}/catalog").status_code == 404
        assert new.exec_run(["health.sh"])[0] != 0
    finally:
        serving.consul.kill("SIGCONT")
    serving.healthy(new)
    assert new.exec_run(["health.sh"])[0] == 0
    until(lambda: states(serving, "current", 3), what="three that report", timeout=20)
    new.stop()
    until(lambda: states(serving, "current", 2), what="its report to go", timeout=5)


def test_the_report_of_a_killed_server_goes_by_itself(serving, urls, small):
    """Nothing stale is left behind to be waited for."""
    publish(serving, small)
    new = serving.map_server("mapserver", "killed", publish=False)
    until(lambda: states(serving, "current", 3), what="three that report", timeout=30)
    new.kill()
    until(lambda: states(serving, "current", 2), what="its report to go", timeout=40)


def test_its_token_reads_the_catalog_and_reports_and_can_do_nothing_else(serving, urls):
    """Whoever breaks into a map server can neither publish nor touch the database's lock."""
    store = consul.Consul([f"http://{serving.lab.machines[0].address}:8500"],
                          serving.secret["map_token"])
    with store, serving.store() as everything:
        assert store.get(catalog.CURRENT) == everything.get(catalog.CURRENT)
        store.put(f"{catalog.REPORTS}x", b"{}")
        store.delete(f"{catalog.REPORTS}x")
        lock = everything.ask("PUT", "session/create", json={"Name": "primary"}).json()["ID"]
        for refused in (
                lambda: store.put(catalog.CURRENT, b"1 2 3"),
                lambda: store.put(f"{catalog.PARTS}a/0", b""),
                lambda: store.delete(catalog.VERSIONS),
                lambda: store.put("service/lab/leader", b"me"),
                lambda: store.ask("PUT", f"session/destroy/{lock}"),
                lambda: store.ask("PUT", "session/create", json={"Node": "pi7"}),
                lambda: store.ask("GET", "acl/tokens")):
            with pytest.raises(consul.ConsulError, match="refuses"):
                refused()
        assert everything.get("service/lab/leader") is None
        assert [s["ID"] for s in everything.ask("GET", f"session/info/{lock}").json()] == [lock]


def test_an_idle_agent_costs_next_to_nothing(serving, servers, urls):
    """It waits in Consul's hands: less than a hundredth of one processor, children and all."""
    before = seconds_of_agent(servers[0])
    threading.Event().wait(20)
    assert before > 0 and seconds_of_agent(servers[0]) - before < 0.2


def test_old_versions_take_no_memory(serving, servers, urls, small):
    """What it holds, and what is being drawn by the one before; a refused one goes at once."""
    for colour in ("#0000ff", "#00ff00", "#ff0000"):
        publish(serving, land(small, colour))
    for server in servers:
        assert len(server.exec_run(["ls", "/run/gislab/catalog"])[1].split()) == 2


def test_its_words_and_its_processes_show_no_token(serving, servers, urls):
    """Neither the log nor the list of processes holds it."""
    def asking() -> str:
        shown = str(servers[0].top(ps_args="-ww -eo pid,args"))  # not cut off
        if "curl" not in shown:
            raise NotYet("no question is under way")
        return shown
    shown = until(asking, what="a question to Consul", timeout=20, every=0.2)
    assert "agent.sh" in shown
    assert serving.secret["map_token"] not in servers[0].logs().decode() + shown


def test_the_token_is_made_once(serving, urls):
    """A second `up` changes nothing."""
    said = []
    catalog.allow(serving.lab, say=said.append)
    assert said == []


def seconds_of_agent(container) -> float:
    """Return the processor's seconds that the agent took, with the children that ended."""
    rows = container.exec_run(["bash", "-c", "cat /proc/[0-9]*/stat"])[1].decode().splitlines()
    agents = [row for row in rows if "(agent.sh)" in row]
    eldest = min(agents, key=lambda row: int(row.split()[0]))
    return sum(map(int, eldest.rpartition(")")[2].split()[11:15])) / 100  # proc(5): ticks


def says(container, words: str) -> None:
    if words not in container.logs(tail=20).decode():
        raise NotYet(container.logs(tail=3).decode())


def states(serving, wanted: str, count: int = 2) -> None:
    found = catalog.status(serving.lab)["state"].tolist()
    if found != [wanted] * count:
        raise NotYet(str(found))
