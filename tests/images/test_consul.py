"""The image of Consul keeps what it promises."""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.live

COMPLETE = {"NODE_NAME": "pi1", "NODES": "pi1=127.0.0.1",
            "CONSUL_HTTP_TOKEN_FILE": "/etc/hostname", "CONSUL_GOSSIP_KEY_FILE": "/etc/hostname"}


def test_prints_its_version(run):
    """The program is there, for this architecture."""
    assert run("consul", "consul", "version")[1].startswith("Consul v1.")


def test_another_command_runs(run):
    """`docker run image bash` gives a shell, and it is not root's."""
    assert run("consul", "bash", "-c", "id -un") == (0, "consul\n")


@pytest.mark.parametrize("missing", COMPLETE)
def test_names_the_variable_that_is_missing(names_what_is_missing, missing):
    """A forgotten variable is named, with an example."""
    names_what_is_missing("consul", "consul", "agent", missing=missing, of=COMPLETE)


def test_names_a_machine_that_is_not_in_the_lab(run):
    """A node whose name is in no list does not join under a guessed address."""
    code, said = run("consul", "consul", "agent", environment=COMPLETE | {"NODE_NAME": "pi9"})
    assert code != 0
    assert "pi9 is not in NODES" in said


def test_answers_only_with_the_token(bench):
    """Nobody writes, reads or looks around without the token; with it, all works."""
    url, headers = bench.consul()
    assert httpx.put(f"{url}/v1/kv/a", content="1").status_code == 403
    assert httpx.put(f"{url}/v1/kv/a", content="1", headers=headers).text.strip() == "true"
    assert httpx.get(f"{url}/v1/kv/a?raw").text != "1"
    assert httpx.get(f"{url}/v1/kv/a?raw", headers=headers).text == "1"
    assert httpx.get(f"{url}/v1/catalog/nodes").json() == []
    for path in ("agent/self", "status/leader", "operator/raft/configuration"):
        assert httpx.get(f"{url}/v1/{path}").status_code == 403, path
    wrong = {"X-Consul-Token": "00000000-0000-0000-0000-000000000000"}
    assert httpx.put(f"{url}/v1/kv/a", content="2", headers=wrong).status_code == 403


def test_gossip_is_encrypted(bench):
    """Members talk only to those that hold the key."""
    url, headers = bench.consul()
    said = httpx.get(f"{url}/v1/agent/self", headers=headers).json()
    assert said["Stats"]["serf_lan"]["encrypted"] == "true"


def test_the_health_question_is_answered(bench):
    """The image's own question works with what the container has, and shows a leader."""
    bench.consul()
    code, said = bench.containers["consul"].exec_run(
        ["consul", "operator", "raft", "list-peers", "-stale"])
    assert code == 0, said
    assert b"leader" in said


def test_holds_no_secret(holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("consul") == []
