"""The stack: deployed once, changed only by a change, and its secrets are the lab's own."""

import io
import json
import re
import subprocess
import tarfile
from dataclasses import replace

import pytest
import yaml
from recorded import node_ls

from gislab import certificate, nodes, registry, settings, stack, wait
from gislab.shell import Result
from gislab.stack import compose

INSPECT = ("docker", "service", "inspect", "gis_consul")
SECRETS = ("docker", "secret", "ls")
SERVICES = ("docker", "stack", "services")
PS = ("docker", "stack", "ps")
NO_SERVICE = Result((), 1, "", "Error: no such service: gis_consul")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(registry, "trust", lambda _, node: None)


@pytest.fixture
def swarm(pis):
    """A new Swarm: no secret, no service."""
    pis.answer("docker", "node", "ls", out=node_ls("pi1", "pi2", "pi3"))
    pis.answer(*SECRETS)
    pis.answer(*INSPECT, out=NO_SERVICE)
    for words in (("docker", "secret", "create"), ("sh", "-c"), ("env",)):
        pis.answer(*words)
    return pis


def settle(pis) -> None:
    """Have the Swarm hold from now on what it was given."""
    deployed, = [re.search(r"DEPLOYED=(\w+)", c)[1] for _, c in pis.sent("env")]
    pis.answer(*SERVICES, out=replicas(consul="3/3", pgpool="3/3"))
    pis.answer(*INSPECT, out=deployed + "\n")
    pis.answer(*INSPECT, "gis_pgpool", out="gis_consul=\ngis_pgpool=completed")
    pis.answer(*SECRETS, out="\n".join(
        f"{c.split()[5]} {c.split()[4]}" for _, c in pis.sent("docker", "secret", "create")))
    pis.forget()


def deploy(lab, **how):
    return stack.deploy(lab, say=lambda text: None, **how)


def replicas(**services: str) -> str:
    return "\n".join(json.dumps({"Name": f"gis_{name}", "Replicas": count, "Mode": "replicated"})
                     for name, count in services.items())


def test_the_members_are_those_of_the_stack_file():
    text = (stack.FOLDER / stack.FILE).read_text()
    assert tuple(re.findall(r"^  (postgis\d+):$", text, re.MULTILINE)) == settings.MEMBERS
    assert f"REPOSITORIES: {' '.join(settings.MEMBERS)}\n" in text


def test_a_new_swarm_gets_every_secret_by_its_input_and_never_by_its_words(paper, swarm):
    assert deploy(paper) is True
    boss = swarm[0]
    made = [(c[-2], i) for c, i in zip(boss.commands, boss.inputs, strict=True)
            if c[:3] == ("docker", "secret", "create")]
    assert made == [*((name, paper.secret(name)) for name in settings.SECRETS),
                    (certificate.IDENTITY, certificate.identity(paper)),
                    (certificate.MAPS, certificate.maps(paper))]
    everything = " ".join(" ".join(c) for pi in swarm for c in pi.commands)
    assert not [name for name in settings.SECRETS if paper.secret(name) in everything]
    assert "PRIVATE KEY" not in everything


def test_the_stack_is_deployed_from_one_manager_with_its_files_beside_it(paper, swarm):
    deploy(paper)
    (name, command), = swarm.sent("env")
    assert name == "pi1" and command.endswith("--prune --resolve-image never gis")
    assert "docker stack deploy --compose-file gis.yml --with-registry-auth" in command
    assert f"VIP={paper.vip}" in command and "MAP_SERVER=mapserver" in command
    assert swarm[1].commands == swarm[2].commands == []


def test_a_second_deploy_changes_nothing_and_says_so(paper, swarm):
    deploy(paper)
    settle(swarm)
    told = []
    assert stack.deploy(paper, say=told.append) is False
    assert told == ["stack gis: unchanged"]
    changing = [c for _, c in swarm.sent()
                if not re.search(r" (ls|inspect|stack services) ", f"{c} ")]
    assert changing == []


def test_an_update_that_swarm_stopped_is_begun_again(paper, swarm):
    deploy(paper)
    settle(swarm)
    swarm.answer(*INSPECT, "gis_pgpool", out="gis_consul=\ngis_pgpool=paused")
    assert deploy(paper) is True and len(swarm.sent("env")) == 1


def test_a_changed_setting_is_deployed(paper, swarm):
    deploy(paper)
    settle(swarm)
    assert deploy(settings.make({"map_server": "mapserver", "ports": {"stats": 9404}})) is True


def test_a_changed_file_of_the_stack_is_deployed_under_a_new_name(paper, swarm, tmp_path,
                                                                  monkeypatch):
    folder = tmp_path / "stack"
    folder.mkdir()
    for path in stack.FOLDER.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(compose, "FOLDER", folder)
    (folder / "extra.cfg").write_text("1")
    deploy(paper)
    before = re.search(r"HASH_EXTRA_CFG=(\w+)", swarm.sent("env")[0][1])[1]
    settle(swarm)
    (folder / "extra.cfg").write_text("2")
    assert deploy(paper) is True
    assert re.search(r"HASH_EXTRA_CFG=(\w+)", swarm.sent("env")[0][1])[1] != before


def test_a_secret_of_another_lab_is_refused_before_anything_is_deployed(paper, swarm):
    swarm.answer(*SECRETS, out="gis_password gislab.digest=0123456789ab")
    with pytest.raises(stack.StackError, match="secret gis_password is not the one in .*Run "
                       "gislab down, then gislab up"):
        deploy(paper)
    assert swarm.sent("env") == []


def test_everything_that_the_stack_file_asks_for_is_given(paper, swarm):
    deploy(paper)
    given = set(re.findall(r"(\w+)=", swarm.sent("env")[0][1]))
    asked = set(re.findall(r"\$\{([A-Z_]+)(?!:-|[A-Z_])", (stack.FOLDER / stack.FILE).read_text()))
    assert asked and asked <= given


def test_each_secret_of_the_stack_file_is_one_that_the_lab_makes():
    text = (stack.FOLDER / stack.FILE).read_text()
    named = re.findall(r"^  (\w+): \{external: true\}", text, re.MULTILINE)
    assert sorted(named) == sorted([*settings.SECRETS, certificate.IDENTITY, certificate.MAPS])


@pytest.mark.parametrize("server, writer", [("mapserver", "reader_password"),
                                            ("geoserver", "gis_password")])
def test_only_a_server_that_takes_transactions_is_given_the_owners_password(
        paper, swarm, server, writer):
    deploy(replace(paper, map_server=server))
    assert f" MAP_WRITER={writer} " in swarm.sent("env")[0][1]


def test_the_console_is_open_only_where_the_lab_says_so(paper, swarm):
    deploy(replace(paper, map_server="geoserver"))
    swarm.forget()
    deploy(replace(paper, map_server="geoserver", console=True))
    deploy(replace(paper, map_server="mapserver", console=True))
    told = [c.split("GEOSERVER_CONSOLE=")[1].split()[0] for _, c in swarm.sent("env")]
    assert told == ["on", "off"]


def test_the_certificate_is_the_vips_and_lies_beside_its_key(paper):
    """Clients trust maps.crt; the key goes to HAProxy, as a secret, and nowhere else."""
    whole = certificate.maps(paper)
    alone = (paper.home / "maps.crt").read_text()
    assert whole.endswith(alone) and "PRIVATE KEY" in whole and "PRIVATE" not in alone
    assert certificate.maps(paper) == whole
    assert (paper.home / "id_maps").stat().st_mode & 0o77 == 0
    said = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=alone,
                          capture_output=True, text=True, check=True).stdout
    assert f"IP Address:{paper.vip}" in said


def test_nothing_in_the_stack_is_privileged_or_reaches_the_engine():
    text = re.sub(r"#.*", "", (stack.FOLDER / stack.FILE).read_text())
    assert "privileged" not in text and "docker.sock" not in text


def test_waiting_names_the_services_that_are_not_whole(paper, swarm):
    swarm.answer(*SERVICES, out=replicas(consul="3/3", mapserver="1/3 (max 2 per node)",
                                         pgpool="2/3"))
    swarm.answer(*PS)
    swarm.answer(*INSPECT)
    with pytest.raises(TimeoutError, match=r"all tasks running: .*\(mapserver 1/3, pgpool 2/3\)"):
        stack.wait(paper, timeout=0)


@pytest.mark.parametrize("counted, told", [("3/3", None), ("2/2", None), ("1/1", "pgpool 1/2"),
                                           ("0/0", "pgpool 0/2"), ("1/3", "pgpool 1/3")])
def test_a_service_of_every_pi_is_whole_when_it_runs_on_each_that_takes_tasks(
        paper, swarm, counted, told):
    """Swarm 26.1 leaves out what waits to be started again: 0/0 while all end again and again."""
    swarm.answer(*SERVICES, out=json.dumps(
        {"Name": "gis_pgpool", "Replicas": counted, "Mode": "global"}))
    swarm.answer("docker", "service", "inspect", "gis_pgpool", out="gis_pgpool=completed")
    swarm.answer("docker", "node", "ls", out="Ready Active\n" * 2 + "Ready Drain\nDown Active\n")
    swarm.answer(*PS)
    if told is None:
        stack.settled(paper)
        return
    with pytest.raises(wait.NotYet, match=f"^{told}$"):
        stack.settled(paper)


# As Docker 26.1 tells of a host's port that another program has, and of one that a task has.
TAKEN = ('"driver failed programming external connectivity on endpoint gis_haproxy.x1 (5cd0): '
         'Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use"')
NO_PLACE = '"no suitable node (host-mode port already in use on 1 node)"'


def test_waiting_tells_why_a_task_is_missing(paper, swarm):
    swarm.answer(*SERVICES, out=replicas(consul="3/3", haproxy="2/3", pgpool="2/3",
                                         mapserver="2/3"))
    swarm.answer(*INSPECT)
    rows = [("gis_haproxy.x1", "pi1", "Ready 1 second ago", ""),
            ("gis_haproxy.x1", "pi1", "Rejected 2 seconds ago", TAKEN),
            ("gis_haproxy.x1", "pi1", "Failed 9 minutes ago", '"task: non-zero exit (137)"'),
            ("gis_mapserver.2", "pi2", "Running 3 hours ago", ""),
            ("gis_mapserver.2", "pi2", "Failed 3 hours ago", '"task: non-zero exit (255)"'),
            ("gis_pgpool.2", "", "Pending 4 seconds ago", NO_PLACE),
            ("gis_mapserver.1", "pi3", "Starting 2 seconds ago", ""),
            ("gis_consul.x1", "pi2", "Shutdown 1 hour ago", '"task: non-zero exit (1)"')]
    swarm.answer(*PS, out="\n".join(json.dumps(
        {"ID": f"{n}-{s}", "Name": n, "Node": p, "CurrentState": s, "Error": e})
        for n, p, s, e in rows))
    with pytest.raises(wait.NotYet) as told:
        stack.settled(paper)
    assert str(told.value) == (
        f"haproxy 2/3 (pi1: {TAKEN[1:-1]}), "
        f"pgpool 2/3 ({NO_PLACE[1:-1]}), mapserver 2/3")
    assert "desired-state" not in swarm.sent(*PS)[0][1], "what was rejected is wanted no more"


JAVA = """Exception in thread "main" java.lang.IllegalStateException: no start
\tat org.eclipse.jetty.start.Main.main(Main.java:76)
Caused by: java.nio.file.AccessDeniedException: WEB-INF/web.xml
\tat java.base/sun.nio.fs.UnixException.translateToIOException(Unknown Source)
\t... 7 more

"""


@pytest.mark.parametrize("words, told", [
    (Result((), 0, "starting", JAVA),
     ": Caused by: java.nio.file.AccessDeniedException: WEB-INF/web.xml"),
    (Result((), 0, "geoserver: ADMIN_PASSWORD_FILE is not set\n", ""),
     ": geoserver: ADMIN_PASSWORD_FILE is not set"),
    (Result((), 0, "", ""), ""), (Result((), 1, "", "no such task"), ""),
    (Result((), 0, "", "\n\t\n"), ""), (Result((), 255, "", "No route to host"), "")])
def test_waiting_tells_the_last_words_of_a_program_that_ended(paper, swarm, words, told):
    swarm.answer(*SERVICES, out=replicas(mapserver="0/1"))
    swarm.answer("docker", "service", "inspect", "gis_mapserver", out="gis_mapserver=")
    swarm.answer(*PS, out="\n".join(json.dumps(
        {"ID": i, "Name": "gis_mapserver.1", "Node": "pi2", "CurrentState": s, "Error": e})
        for i, s, e in (("new", "Starting 1 second ago", ""),
                        ("t2", "Failed 2 seconds ago", '"task: non-zero exit (1)"'),
                        ("t1", "Failed 9 seconds ago", '"task: non-zero exit (9)"'))))
    swarm.answer("docker", "service", "logs", "--raw", "--tail", "40", "t2", out=words)
    with pytest.raises(wait.NotYet) as reason:
        stack.settled(paper)
    assert str(reason.value) == f"mapserver 0/1 (pi2: task: non-zero exit (1){told})"


def test_waiting_ends_when_all_tasks_run(paper, swarm):
    swarm.answer(*SERVICES, out=replicas(consul="3/3", mapserver="3/3 (max 2 per node)"))
    swarm.answer("docker", "service", "inspect", "gis_consul", "gis_mapserver",
                 out="gis_consul=\ngis_mapserver=completed")
    stack.wait(paper, timeout=0)


@pytest.mark.parametrize("running", ["3/3", "2/3"])
def test_an_update_that_swarm_stopped_ends_the_waiting_at_once(paper, swarm, running):
    """A task that dies again and again runs, too, whenever it has just been started."""
    swarm.answer(*SERVICES, out=replicas(consul="3/3", pgpool=running))
    swarm.answer("docker", "service", "inspect", "gis_consul", "gis_pgpool",
                 out="gis_consul=completed\ngis_pgpool=paused")
    with pytest.raises(stack.StackError, match="^pgpool: Swarm paused the update, .*gislab up$"):
        stack.wait(paper, timeout=60)


def test_a_swarm_without_the_stack_is_told_as_such(paper, swarm):
    swarm.answer(*SERVICES)
    with pytest.raises(TimeoutError, match="no service is deployed"):
        stack.wait(paper, timeout=0)


def test_tasks_are_told_by_service_pi_state_and_error(paper, swarm):
    rows = [("gis_pgpool.x1", "pi2", "Running 3 minutes ago", ""),
            ("gis_mapserver.1", "pi1", "Rejected 5 seconds ago", '"No such image"')]
    swarm.answer(*PS, out="\n".join(json.dumps(
        {"ID": f"{n}-{s}", "Name": n, "Node": p, "CurrentState": s, "Error": e})
        for n, p, s, e in rows))
    table = stack.tasks(paper)
    assert table[["service", "node", "state", "since", "error"]].values.tolist() == [
        ["mapserver", "pi1", "Rejected", "5 seconds ago", "No such image"],
        ["pgpool", "pi2", "Running", "3 minutes ago", ""]]


def test_containers_are_asked_of_every_pi_and_a_dark_one_is_left_out(paper, swarm):
    swarm.answer("docker", "ps", out="a1\nb2\n")
    swarm[1].answers["docker", "ps"] = Result((), 255, "", "No route to host")
    assert [(node.name, c) for node, c in stack.containers(paper, "haproxy")] == [
        ("pi1", "a1"), ("pi1", "b2"), ("pi3", "a1"), ("pi3", "b2")]


def test_a_service_that_cannot_be_scaled_is_told_with_those_that_there_are(paper, swarm):
    swarm.answer("docker", "service", "scale", out=Result(
        (), 1, "", "gis_tomcat: Error: No such service: gis_tomcat"))
    swarm.answer(*SERVICES, out=replicas(consul="3/3", mapserver="3/3"))
    with pytest.raises(stack.StackError, match=r"tomcat cannot be scaled to 2: .*No such service"
                                               r".*\(services: consul, mapserver\)"):
        stack.scale(paper, "tomcat", 2)


def test_an_update_that_swarm_stops_is_told_with_the_remedy(paper, swarm):
    """A new task did not run; the others still do."""
    swarm.answer("docker", "service", "update")
    swarm.answer("docker", "service", "inspect", "gis_mapserver", out="paused")
    with pytest.raises(stack.StackError, match="mapserver: Swarm paused the update, "
                       "since a new task did not run; .*gislab up"):
        stack.update(paper, "mapserver", "here/new:1")
    (_, command), = swarm.sent("docker", "service", "update")
    assert "--force --image here/new:1" in command and command.endswith("gis_mapserver")


def test_map_servers_that_are_spread_evenly_are_left_alone(paper, swarm):
    swarm.answer("docker", "ps", out="a1\n")
    told = []
    stack.spread(paper, say=told.append)
    assert told == ["mapserver: spread evenly already, 1 + 1 + 1"]
    assert swarm.sent("docker", "service", "update") == []


def test_map_servers_on_too_few_pis_are_placed_anew(paper, swarm):
    for pi, out in zip(swarm, ("a1\nb2\n", "", "c3\n"), strict=True):
        pi.answers["docker", "ps"] = out
    swarm.answer("docker", "service", "update")
    swarm.answer("docker", "service", "inspect", out="completed")
    swarm.answer(*SERVICES, out=replicas(mapserver="3/3"))
    swarm.answer("docker", "service", "inspect", "gis_mapserver", out="completed")
    stack.spread(paper, say=lambda text: None)
    assert swarm.sent("docker", "service", "update")[0][1].endswith("--force gis_mapserver")


def test_the_manager_is_the_first_pi_that_answers_as_one(paper, swarm):
    swarm[0].answers["docker", "node", "ls"] = Result((), 255, "", "No route to host")
    assert nodes.manager(paper).name == "pi2"


@pytest.mark.live
def test_services_run_where_they_belong(whole):
    """Database members are pinned; the rest runs once on every Pi."""
    tasks = stack.tasks(whole)
    tasks = tasks[tasks.state == "Running"]
    names = {m.name for m in whole.machines}
    for service in ("consul", "pgpool", "haproxy", "keepalived"):
        assert set(tasks[tasks.service == service].node) == names, service
    for number in (1, 2, 3):
        assert tasks[tasks.service == f"postgis{number}"].node.tolist() == [f"pi{number}"]


@pytest.mark.live
def test_members_that_are_deployed_alike_are_seen_as_alike(whole):
    """Else every change to another service would hand the primary's role over for nothing."""
    assert stack.alike(whole, "postgis1", "postgis2")
    assert stack.alike(whole, "postgis1", "postgis3")


@pytest.mark.live
def test_map_servers_are_scaled_up_and_down_again(whole):
    stack.scale(whole, "mapserver", 4)
    assert len(stack.containers(whole, "mapserver")) == 4
    stack.scale(whole, "mapserver", 3)
    assert len(stack.containers(whole, "mapserver")) == 3


@pytest.mark.live
def test_no_secret_is_to_be_read_in_what_the_swarm_shows(whole):
    """Secrets reach containers as files; neither services nor containers name them."""
    secrets = [whole.secret(name) for name in settings.SECRETS]

    def shown(node: nodes.Node) -> str:
        ids = node.docker("ps", "-aq").split()
        return node.docker("inspect", *ids)
    boss = nodes.manager(whole)
    text = boss.docker("service", "inspect", *boss.docker("service", "ls", "-q").split())
    text += "".join(nodes.each(whole, shown))
    assert not [name for name, value in zip(settings.SECRETS, secrets, strict=True)
                if value in text]


def test_what_runs_is_told_by_the_digests_of_the_pis_own_engines(paper, pis):
    """As `docker inspect` of Docker 26.1 said on the virtual lab, shortened."""
    own = "172.30.16.5:5000/gislab/"
    pis.answer("sh", "-c", out=f"{own}haproxy:amd64-0fd4 sha256:1111\n"
                               f"{own}postgis:amd64-9abc sha256:2222\n")
    assert stack.digests(paper) == {"haproxy": "amd64-0fd4@sha256:1111",
                                    "postgis": "amd64-9abc@sha256:2222"}
    (pi, command), *_ = pis.sent("sh", "-c")
    assert pi == "pi1" and "label=com.docker.stack.namespace=gis" in command


def test_two_builds_of_one_image_are_both_told_and_a_silent_pi_is_left_out(paper, pis):
    pis.answer("sh", "-c", out="r:5000/gislab/haproxy:a sha256:1111")
    pis[1].answers["sh", "-c"] = "r:5000/gislab/haproxy:b sha256:2222"
    pis[2].answers["sh", "-c"] = Result((), 255, "", "no route")
    assert stack.digests(paper) == {"haproxy": "a@sha256:1111 and b@sha256:2222"}


def template(member: str, image: str = "postgis:1", place: int = 1, **spec) -> str:
    """What Docker 26.1 says of a member's tasks, shortened."""
    return json.dumps({
        "ContainerSpec": {"Image": image, "Hostname": member, "Env": [
            f"MEMBER={member}", "REPOSITORIES=postgis1 postgis2 postgis3"]},
        "Placement": {"Constraints": [f"node.labels.gislab.postgis == {place}"]},
        "Networks": [{"Target": "nf5q4oh7", "Aliases": [member]}],
        "ForceUpdate": place, **spec})


def test_one_service_is_deployed_alone_as_the_stack_file_says(paper, swarm):
    """And nothing else is removed for it; it is told whether its task is replaced."""
    one = ("docker", "service", "inspect", "gis_postgis2")
    swarm.answer(*one, out=template("postgis2"))
    assert stack.renew(paper, "postgis2", say=lambda text: None) is False
    (_, command), = swarm.sent("env")
    assert "--compose-file one.yml" in command and "--prune" not in command
    boss = swarm[0]
    sent, = [i for c, i in zip(boss.commands, boss.inputs, strict=True) if "tar -x" in c[-1]]
    with tarfile.open(fileobj=io.BytesIO(sent)) as files:
        alone = yaml.safe_load(files.extractfile("one.yml").read())
    whole = yaml.safe_load((stack.FOLDER / stack.FILE).read_text())
    assert alone["services"] == {"postgis2": whole["services"]["postgis2"]}
    assert alone["networks"] == whole["networks"] and alone["version"] == "3.12"
    assert alone["services"]["postgis2"]["image"].startswith("${IMAGE_POSTGIS:?")

    class Renewed(dict):
        def __getitem__(self, asked):
            if asked[0] == "env":
                self[one] = template("postgis2", image="postgis:2")
            return super().__getitem__(asked)
    boss.answers = Renewed(boss.answers)
    assert stack.renew(paper, "postgis2", say=lambda text: None) is True


def test_members_are_alike_but_for_their_name_and_place(paper, swarm):
    swarm.answer("docker", "service", "inspect", "gis_postgis1", out=template("postgis1"))
    swarm.answer("docker", "service", "inspect", "gis_postgis2", out=template("postgis2", place=2))
    assert stack.alike(paper, "postgis1", "postgis2")
    for other in (template("postgis2", image="postgis:2"),
                  template("postgis2", Resources={"Limits": {"MemoryBytes": 1}}),
                  template("postgis2", Networks=[{"Target": "other", "Aliases": ["postgis2"]}])):
        swarm.answer("docker", "service", "inspect", "gis_postgis2", out=other)
        assert not stack.alike(paper, "postgis1", "postgis2")


def test_a_stack_is_outdated_when_it_stands_otherwise_than_the_file_says(paper, swarm):
    assert not stack.outdated(paper), "there is none"
    deploy(paper)
    settle(swarm)
    assert not stack.outdated(paper)
    assert stack.outdated(settings.make({"map_server": "mapserver", "ports": {"stats": 9404}}))


@pytest.mark.parametrize("pis", range(3, 8))
def test_pgpool_leaves_room_for_others_and_postgresql_never_refuses_one(pis):
    """However many Pis there are, and however many clients."""
    images = settings.PROJECT / "images"
    most = yaml.safe_load((images / "postgis/patroni.yml").read_text())[
        "bootstrap"]["dcs"]["postgresql"]["parameters"]["max_connections"]
    through = {int(n) for n in re.findall(r"server check port 8009 .* maxconn (\d+) ",
                                          (stack.FOLDER / "haproxy.cfg").read_text())}
    pool = dict(re.findall(r"^(num_init_children|max_pool) = (\d+)$",
                           (images / "pgpool/pgpool.conf").read_text(), re.MULTILINE))
    script = (images / "pgpool/entrypoint.sh").read_text().replace('\n_main "$@"', "")
    nodes = " ".join(f"pi{n}=192.0.2.{n}" for n in range(1, pis + 1))
    share = int(subprocess.run(["bash", "-c", script + '\nchildren "$1"', "-", nodes],
                               capture_output=True, text=True, check=True).stdout)
    (clients,) = through
    assert pis > 3 or share == int(pool["num_init_children"])
    assert clients <= most - 3 - 7, "the superuser's, and what the member does itself"
    assert share >= 5 and pis * share * int(pool["max_pool"]) <= clients - 18
