"""Realtime for the VIP's adverts, on a kernel that shares it out among control groups."""

import os
import subprocess
from types import SimpleNamespace

import pytest
from recorded import stand_in

from gislab import settings, stack, virtual

SCRIPT = settings.PROJECT / "images" / "pi" / "runc-realtime.sh"
SHARES = "cpu.rt_runtime_us"


@pytest.fixture
def runc(tmp_path):
    """The script, over a runc that notes its words; gives exit code, words and the share."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()

    def run(*words: str, capability: str = "CAP_SYS_NICE", fails: int = 0, group: bool = True):
        stand_in(tmp_path / "bin" / "runc",
                 f'#!/bin/bash\necho "$*" > {tmp_path}/words\nexit {fails}\n')
        (bundle / "config.json").write_text(f'{{"bounding": ["CAP_CHOWN", "{capability}"]}}')
        if group:
            (tmp_path / "docker" / "c1").mkdir(parents=True, exist_ok=True)
        text = SCRIPT.read_text().replace("/sys/fs/cgroup/cpu/docker", f"{tmp_path}/docker")
        done = subprocess.run(["bash", "-c", text, "runc-realtime.sh", *words],
                              env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
                              capture_output=True, text=True)
        share = tmp_path / "docker" / "c1" / SHARES
        assert done.stderr == ""
        return (done.returncode, (tmp_path / "words").read_text().split(),
                share.read_text().strip() if share.exists() else "")
    run.create = ("--root", "/run/runc", "create", "--bundle", str(bundle), "--pid-file", "p",
                  "c1")
    return run


def test_who_may_ask_for_realtime_has_a_share_before_it_starts(runc):
    assert runc(*runc.create) == (0, list(runc.create), "20000")


@pytest.mark.parametrize("how", [{"capability": "CAP_CHOWN"}, {"fails": 3}, {"group": False}])
def test_others_have_none_and_a_container_is_made_or_not_as_runc_says(runc, how):
    assert runc(*runc.create, **how) == (how.get("fails", 0), list(runc.create), "")


def test_what_makes_no_container_is_runcs_own(runc):
    words = ("--root", "/run/runc", "kill", "c1", "9")
    assert runc(*words, fails=1) == (1, list(words), "")


@pytest.mark.parametrize("kernel, given, asked", [
    (False, None, False), (True, None, True), (True, "0\n", True), (True, "900000\n", False)])
def test_the_engines_group_is_given_its_share_once(
        paper, tmp_path, monkeypatch, kernel, given, asked):
    if kernel:
        (tmp_path / SHARES).write_text("950000\n")
    if given:
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / SHARES).write_text(given)
    runs = []
    monkeypatch.setattr(virtual, "GROUPS", tmp_path)
    monkeypatch.setattr(virtual.engine, "client", lambda: SimpleNamespace(
        containers=SimpleNamespace(run=lambda *words, **how: runs.append((words, how)))))
    virtual._share_realtime(paper)
    assert bool(runs) == asked
    if asked:
        ((_, command), how), = runs
        assert f"/groups/docker/{SHARES}" in command[-1]
        assert how["volumes"] == {str(tmp_path): {"bind": "/groups", "mode": "rw"}}


@pytest.mark.live
def test_in_a_virtual_pi_keepalived_has_realtime_and_haproxy_has_not(whole):
    if not (virtual.GROUPS / SHARES).exists():
        pytest.skip("this kernel shares no realtime out")
    for service, has in (("keepalived", True), ("haproxy", False)):
        for node, container in stack.containers(whole, service):
            done = node.run(["docker", "exec", container, "chrt", "--fifo", "1", "true"],
                            check=False)
            assert (done.code == 0) == has, (service, node.name, done.err)
