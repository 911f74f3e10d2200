"""The image of HAProxy, with the stack's own configuration, keeps what it promises."""

from __future__ import annotations

import ssl
import threading

import httpx
import pytest

from gislab import certificate, settings
from gislab.wait import NotYet, until

from . import serving as helper

pytestmark = pytest.mark.live
CONFIG = (settings.PROJECT / "stack" / "haproxy.cfg").read_bytes()


@pytest.fixture(scope="module")
def servers(serving):
    """Three map servers under the name that Swarm would give them."""
    return [serving.map_server("mapserver", "tasks.mapserver") for _ in range(3)]


@pytest.fixture(scope="module")
def host(serving, servers):
    (serving.folder / "maps_certificate").write_text(certificate.maps(serving.lab))
    made = serving.run("haproxy", "haproxy", environment={
        "NODE_NAME": "pi1", "MAPS_CERTIFICATE": "/run/secrets/maps_certificate"},
                       files={"/etc/haproxy/haproxy.cfg": CONFIG}, cap_drop=["ALL"])
    host = serving.address(made)
    until(lambda: _up(host, serving, 3), what="three map servers", timeout=60)
    return host


def test_prints_its_version(run):
    """HAProxy 3.0 is there, for this architecture."""
    assert "3.0" in run("haproxy", "-v", entrypoint="haproxy")[1]


def test_another_command_runs(run):
    """`docker run image bash` gives a shell, and it is not root's."""
    assert run("haproxy", "bash", "-c", "id -un") == (0, "haproxy\n")


def test_names_the_secret_that_is_missing(run):
    """Without a password for the statistics it does not start, and says which file it wants."""
    code, said = run("haproxy")
    assert code != 0
    assert "HAPROXY_PASSWORD_FILE" in said and "/run/secrets/haproxy_password" in said


def test_holds_no_secret(holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("haproxy") == []


def test_statistics_need_the_password(serving, host):
    """Nobody reads them without it; /health, which Keepalived asks, is open."""
    url = f"http://{host}:8404"
    assert httpx.get(f"{url}/").status_code == 401
    assert httpx.get(f"{url}/", auth=("lab", "lab")).status_code == 401
    good = ("lab", serving.secret["haproxy_password"])
    assert httpx.get(f"{url}/", auth=good).status_code == 200
    assert httpx.get(f"{url}/health").status_code == 200


def test_nobody_configures_a_map_server_through_it(host):
    """GeoServer's console and REST are not to be reached at the VIP."""
    for path in ("/geoserver/web/", "/geoserver/rest/workspaces", "/geoserver/j_spring_security",
                 "/geoserver/gwc/rest/layers"):
        assert httpx.get(f"http://{host}:8080{path}").status_code == 403


def test_a_map_comes_through(host):
    """Any map server answers, and the answer names the Pi that passed it on."""
    answer = helper.picture(f"http://{host}:8080", "countries")
    assert helper.is_png(answer)
    assert answer.headers["X-Served-Through"] == "pi1"


def test_a_map_comes_by_tls_with_the_labs_own_certificate(serving, host):
    """Whoever has maps.crt knows whom they talk to; nobody else's machine trusts it."""
    context = ssl.create_default_context(cafile=str(serving.lab.home / "maps.crt"))
    context.check_hostname = False  # it names the VIP, which is another container here
    answer = httpx.get(f"https://{host}:8443/ows", verify=context, timeout=20,
                       params=helper.WMS | {"layers": "countries"})
    assert helper.is_png(answer)
    with pytest.raises(httpx.ConnectError, match="(?i)certificate"):
        httpx.get(f"https://{host}:8443/ows", timeout=20)


def test_a_killed_map_server_costs_no_request(serving, servers, host):
    """SIGKILL in the middle of questions: none fails."""
    answers = _ask_while(host, lambda: servers[0].kill("SIGKILL"))
    assert [a for a in answers if not helper.is_png(a)] == []
    servers[0].start()
    until(lambda: _up(host, serving, 3), what="three map servers again", timeout=60)


def test_a_map_server_that_goes_costs_no_request(serving, servers, host):
    """Scaling down: it drains, and none fails."""
    answers = _ask_while(host, lambda: servers[1].stop(timeout=10))
    assert [a for a in answers if not helper.is_png(a)] == []
    servers[1].start()
    until(lambda: _up(host, serving, 3), what="three map servers again", timeout=60)


@pytest.mark.parametrize(("path", "question"), [
    ("", helper.WMS | {"layers": "countries"}), ("", helper.WFS | {"typeNames": "countries"}),
    ("/catalog/ogcapi/collections/countries/items", {})], ids=["WMS", "WFS", "OGC API"])
def test_a_session_that_breaks_costs_no_request(serving, host, path, question):
    """The database ends a query in its middle: another map server is asked, nobody notices."""
    until(lambda: _up(host, serving, 3), what="three map servers", timeout=60)
    answer = helper.broken(serving, "countries", lambda: httpx.get(
        f"http://{host}:8080/ows{path}", params=question, timeout=20))
    assert helper.is_png(answer) or answer.json()["features"][0]["properties"]["name"] == "Box"


def _ask_while(host: str, action, count: int = 150) -> list[httpx.Response]:
    """Ask `count` maps one after another; `action` happens meanwhile, in another thread."""
    answers = []
    with httpx.Client(timeout=20) as client:
        for number in range(count):
            if number == 30:
                thread = threading.Thread(target=action)
                thread.start()
            answers.append(client.get(f"http://{host}:8080/ows",
                                      params=helper.WMS | {"layers": "countries"}))
    thread.join()
    return answers


def _up(host: str, serving, wanted: int) -> None:
    try:
        table = httpx.get(f"http://{host}:8404/;csv", timeout=2,
                          auth=("lab", serving.secret["haproxy_password"])).text
    except httpx.TransportError as error:
        raise NotYet(str(error)) from None
    up = [row for row in table.splitlines() if row.startswith("maps,maps") and ",UP," in row]
    if len(up) != wanted:
        raise NotYet(f"{len(up)} of {wanted} map servers")
