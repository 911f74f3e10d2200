"""The image of HAProxy, with the stack's own configuration, keeps what it promises."""

from __future__ import annotations

import socket
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
    """GeoServer's console and REST are not to be reached at the VIP, however they are written."""
    for path in ("/geoserver/web/", "/geoserver/rest/workspaces", "/geoserver/j_spring_security",
                 "/geoserver/gwc/rest/layers", "/geoserver/gwc/demo/gis:countries",
                 "/geoserver/%72est/workspaces", "/geoserver/gwc/%72est/layers",
                 "/geoserver/%77eb/", "/geoserver/%6a_spring_security_check",
                 "/geoserver;x=1/rest/workspaces", "//geoserver//rest/workspaces",
                 "/geoserver%2Frest/workspaces"):
        assert _plain(host, path) == 403, path
    for path in ("/geoserver/./rest", "/ows/../geoserver/rest", "/ows/%2e%2e/geoserver/rest",
                 "/geoserver/%72est/%zz"):
        assert _plain(host, path) == 400, path


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


# A map server that keeps what it was asked: below /geoserver it answers with its name, elsewhere
# it reads the question and hangs up, as one that dies does.
STAND_IN = """
import http.server, json, socket
seen = []
class Ask(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/seen":
            text = json.dumps(seen)
            seen.clear()
        elif self.path == "/health":
            text = "ok"
        else:
            seen.append(self.command + " " + self.path)
            text = socket.gethostname() if self.path.startswith("/geoserver") else ""
        if text:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())
    do_POST = do_GET
http.server.ThreadingHTTPServer(("", 8080), Ask).serve_forever()
"""


@pytest.fixture(scope="module")
def stand_ins(serving):
    return [serving.run("postgis", "tasks.stand-in", ["python3", "-c", STAND_IN])
            for _ in range(3)]


@pytest.fixture(scope="module")
def proxies(serving, stand_ins):
    """The HAProxies of two Pis before the stand-ins, with GeoServer's console."""
    made = [serving.address(serving.run("haproxy", f"haproxy-{pi}", environment={
        "NODE_NAME": pi, "GEOSERVER_CONSOLE": "on"}, cap_drop=["ALL"], files={
        "/etc/haproxy/haproxy.cfg": CONFIG.replace(b"tasks.mapserver", b"tasks.stand-in")}))
        for pi in ("pi1", "pi2")]
    for backend in ("maps", "console"):
        for address in made:
            until(lambda a=address, b=backend: _up(a, serving, 3, b), what="stand-ins", timeout=60)
    return made


def seen(serving, stand_ins) -> list[list[str]]:
    """Return what each of them was asked since the last time."""
    return [httpx.get(f"http://{serving.address(one)}:8080/seen").json() for one in stand_ins]


@pytest.mark.parametrize("method, query", [
    ("POST", ""), ("GET", "?service=WFS&request=Transaction"),
    ("GET", "?service=WFS&REQUEST=%54ransaction"), ("GET", "?service=WFS&req%75est=transaction")])
def test_a_transaction_is_sent_once_whatever_becomes_of_it(serving, stand_ins, proxies, method,
                                                           query):
    """A map server that dies over it may have written it already."""
    seen(serving, stand_ins)
    answer = httpx.request(method, f"http://{proxies[0]}:8080/ows{query}", timeout=20,
                           content=b"<wfs:Transaction/>" if method == "POST" else None)
    assert answer.status_code == 502
    assert sum(seen(serving, stand_ins), []) == [f"{method} /ows{query}"]


def test_a_map_is_asked_of_the_others_when_a_map_server_dies_over_it(serving, stand_ins, proxies):
    """Four times in all, and of no server only."""
    seen(serving, stand_ins)
    assert httpx.get(f"http://{proxies[0]}:8080/ows?request=GetMap", timeout=20).status_code == 502
    found = seen(serving, stand_ins)
    assert len(sum(found, [])) == 4 and len([one for one in found if one]) > 1


def test_a_visitor_of_the_console_stays_at_one_server_also_when_the_vip_moves(proxies):
    """By a cookie that each Pi's HAProxy understands, and no script of a page can read."""
    with httpx.Client(timeout=20) as visitor:
        first = visitor.get(f"http://{proxies[0]}:8080/geoserver/web/")
        said = first.headers["set-cookie"]
        assert said.startswith("GISLAB_CONSOLE=") and "httponly" in said.lower()
        cookie = {"Cookie": said.partition(";")[0]}
    for proxy in proxies * 5:
        answer = httpx.post(f"http://{proxy}:8080/geoserver/web/wicket", content=b"x=1",
                            headers=cookie, timeout=20)
        assert answer.text == first.text
        assert "set-cookie" not in answer.headers


def test_maps_have_no_cookie_and_go_to_any_server(proxies):
    found = [httpx.get(f"http://{proxies[0]}:8080/geoserver/ows", timeout=20) for _ in range(30)]
    assert not [a for a in found if "set-cookie" in a.headers]
    assert len({a.text for a in found}) == 3


def test_a_console_opens_neither_rest_nor_the_page_of_tiles(proxies):
    for path in ("/geoserver/rest/workspaces", "/geoserver/%72est/", "/geoserver/gwc/rest/layers",
                 "/geoserver/gwc/demo"):
        assert _plain(proxies[0], path) == 403, path


def _plain(host: str, path: str) -> int:
    """Return the status of a path that is sent as it is written: a client would tidy it up."""
    with socket.create_connection((host, 8080), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: maps\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


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


def _up(host: str, serving, wanted: int, backend: str = "maps") -> None:
    try:
        table = httpx.get(f"http://{host}:8404/;csv", timeout=2,
                          auth=("lab", serving.secret["haproxy_password"])).text
    except httpx.TransportError as error:
        raise NotYet(str(error)) from None
    up = [row for row in table.splitlines()
          if row.startswith(f"{backend},{backend}") and ",UP," in row]
    if len(up) != wanted:
        raise NotYet(f"{len(up)} of {wanted} map servers")
