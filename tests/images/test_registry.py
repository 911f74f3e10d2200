"""The image of the registry keeps what it promises: nobody in without certificate and password."""

from __future__ import annotations

import bcrypt
import httpx
import pytest

from gislab.shell import Local, archive
from gislab.wait import NotYet, until

pytestmark = pytest.mark.live
FILES = {"REGISTRY_HTTP_TLS_CERTIFICATE": "/etc/registry/registry.crt",
         "REGISTRY_HTTP_TLS_KEY": "/etc/registry/registry.key",
         "REGISTRY_AUTH_HTPASSWD_PATH": "/etc/registry/htpasswd"}


@pytest.fixture(scope="module")
def url(the_engine, image, tmp_path_factory):
    """A registry with a certificate and one user, lab / secret."""
    folder = tmp_path_factory.mktemp("registry")
    Local().run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=test",
                 "-keyout", str(folder / "key"), "-out", str(folder / "crt")])
    made = the_engine.containers.create(image("registry"), environment=FILES)
    made.put_archive("/etc", archive({
        "registry/registry.crt": (folder / "crt").read_bytes(),
        "registry/registry.key": (folder / "key").read_bytes(),
        "registry/htpasswd": b"lab:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4))}))
    made.start()
    made.reload()
    address = made.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]

    def ask():
        try:
            httpx.get(f"https://{address}:5000/v2/", verify=False, timeout=2)
        except httpx.TransportError as error:
            raise NotYet(f"{error} {made.logs(tail=2).decode()}") from None
    until(ask, what="the registry", timeout=20)
    yield f"https://{address}:5000"
    made.remove(force=True, v=True)


def test_prints_its_version(run):
    """Debian's registry is there, for this architecture."""
    assert " 2.8" in run("registry", "docker-registry", "--version")[1]


@pytest.mark.parametrize("missing", FILES)
def test_names_the_file_that_is_missing(run, missing):
    """It does not start open: certificate, key and users are asked for by name."""
    some = dict.fromkeys(FILES, "/etc/hostname") | {missing: "/nowhere"}
    code, said = run("registry", environment=some)
    assert code != 0
    assert missing in said and "/nowhere" in said


def test_holds_no_secret(holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("registry") == []


def test_is_not_root(run):
    """`docker run image bash` gives a shell, and it is not root's."""
    assert run("registry", "bash", "-c", "id -un") == (0, "docker-registry\n")


@pytest.mark.parametrize("who, code", [(None, 401), (("lab", "lab"), 401),
                                       (("lab", "secret"), 200)])
def test_needs_the_password(url, who, code):
    """Neither reading nor writing without it."""
    assert httpx.get(f"{url}/v2/", auth=who, verify=False).status_code == code


def test_speaks_tls_only(url):
    """Plain HTTP gets no password out of anybody."""
    assert httpx.get(url.replace("https", "http") + "/v2/").status_code == 400
