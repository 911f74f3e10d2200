"""The lab's registry: nobody reads or writes without the lab's password."""

import stat

import pytest
import requests

from gislab import engine, images, nodes, registry

pytestmark = pytest.mark.live


@pytest.fixture
def url(lab):
    container = engine.client().containers.get(f"{lab.name}-registry")
    (binding,), = [ports for ports in container.ports.values() if ports]
    assert binding["HostIp"] == "127.0.0.1", "a virtual lab's registry is for this machine only"
    return f"https://127.0.0.1:{binding['HostPort']}/v2"


def ask(lab, method: str, url: str, password: str | None = None) -> int:
    auth = None if password is None else (registry.USER, password)
    return requests.request(method, url, auth=auth, timeout=10,
                            verify=str(registry._certificate(lab)[0])).status_code


@pytest.mark.parametrize("password", [None, "", "lab"])
def test_a_stranger_can_neither_pull_nor_push(lab, url, password):
    repository, version = images.tag(lab, "haproxy").split(":")
    for method, path in (("GET", "/"), ("GET", "/_catalog"),
                         ("GET", f"/{repository}/manifests/{version}"),
                         ("POST", f"/{repository}/blobs/uploads/"),
                         ("DELETE", f"/{repository}/manifests/{version}")):
        assert ask(lab, method, url + path, password) == 401, f"{method} {path}"


def test_the_labs_password_opens_it_and_every_image_of_the_pis_is_there(lab, url):
    password = lab.secret("registry_password")
    assert ask(lab, "GET", url + "/", password) == 200
    for name in images.names(lab, where="pi"):
        repository, version = images.tag(lab, name).split(":")
        assert ask(lab, "GET", f"{url}/{repository}/tags/list", password) == 200


def test_it_speaks_no_plain_http(url):
    with pytest.raises(requests.RequestException):
        requests.get(url.replace("https", "http"), timeout=10).raise_for_status()


def test_its_private_key_is_readable_by_its_owner_only(lab):
    key = registry._certificate(lab)[1]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_second_push_and_pull_send_nothing(lab):
    for again in (registry.up, registry.push, registry.pull):
        again(lab, say=lambda text: pytest.fail(text))


def test_a_pi_without_the_password_cannot_pull(lab):
    """Only Docker's log-in on the Pi opens the registry, not its address in the lab."""
    node = nodes.all(lab)[0]
    image = registry.reference(lab, "haproxy")
    done = node.run(["env", "DOCKER_CONFIG=/tmp/nobody", "docker", "pull", image], check=False)
    assert done.code and "no basic auth credentials" in done.err
