"""A lab's facts are read once, and what is wrong in them is told in one line."""

import dataclasses
import re
import stat

import pytest

from gislab import settings

PI = {"kind": "pi", "ssh_key": "~/.ssh/id_ed25519", "subnet": "192.168.1.0/24",
      "machines": [{"name": f"pi{i}", "address": f"192.168.1.1{i}", "user": "pi"}
                   for i in (1, 2, 3)]}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GISLAB_LAB", raising=False)
    return tmp_path / "home"


def machines(**change):
    """Three real Pis, the second one changed."""
    rows = [dict(row) for row in PI["machines"]]
    rows[1].update(change)
    return {**PI, "machines": rows}


def test_without_a_file_there_is_a_virtual_lab_of_three_pis(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    lab = settings.read()
    assert (lab.name, lab.kind, lab.vip) == ("gislab", "virtual", "172.30.16.100")
    assert [(m.name, m.address) for m in lab.machines] == [
        ("pi1", "172.30.16.11"), ("pi2", "172.30.16.12"), ("pi3", "172.30.16.13")]
    assert lab.platform in settings.PLATFORMS and lab.maps_url == "http://172.30.16.100"


def test_a_lab_toml_here_is_read_and_the_variable_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.toml").write_text('name = "here"\npis = 5\n[ports]\nmaps = 8080\n')
    (tmp_path / "other.toml").write_text('name = "there"\n')
    here = settings.read()
    assert here.name == "here" and len(here.machines) == 5
    assert here.maps_url == "http://172.30.16.100:8080"
    monkeypatch.setenv("GISLAB_LAB", str(tmp_path / "other.toml"))
    assert settings.read().name == "there"


def test_the_example_file_of_the_readme_describes_a_lab_with_every_key():
    path = settings.PROJECT / "lab.example.toml"
    lab = settings.read(path)
    assert lab.kind == "pi" and len(lab.machines) == 3
    told = path.read_text()
    for key in [f.name for f in dataclasses.fields(settings.Lab) + dataclasses.fields(
            settings.Machine) + dataclasses.fields(settings.Ports)] + ["pis"]:
        assert re.search(rf"\b{key}\b", told), f"{path.name} does not tell of {key}"


def test_real_pis_are_arm_machines_with_their_own_users():
    lab = settings.make(PI)
    assert lab.platform == "linux/arm64" and lab.architecture == "arm64"
    assert lab.machine("pi2") == settings.Machine("pi2", "192.168.1.12", "pi", 22)
    assert settings.peers(lab) == "pi1=192.168.1.11 pi2=192.168.1.12 pi3=192.168.1.13"


def test_a_lab_cannot_be_changed_after_it_was_read():
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.make({}).vip = "172.30.16.101"


def test_an_unknown_machine_is_answered_with_those_that_there_are():
    with pytest.raises(KeyError, match="no machine 'pi9' in this lab; there are pi1, pi2, pi3"):
        settings.make({}).machine("pi9")


@pytest.mark.parametrize("table, key, value, remedy", [
    ({"vpi": "172.30.16.100"}, "vpi", "172.30.16.100", "no such key; there are .*vip"),
    ({"ports": {"map": 80}}, "ports.map", 80, "no such key; there are https, maps, "),
    (machines(adress="192.168.1.12"), "machines.adress", "192.168.1.12", "address, name"),
    ({"name": "My Lab"}, "name", "My Lab", "small letters"),
    ({"name": 5}, "name", 5, "write it in quotes"),
    ({"kind": "real"}, "kind", "real", '"virtual" or "pi"'),
    ({"subnet": "172.30.16.7/24"}, "subnet", "172.30.16.7/24", "e.g. 172.30.16.0/24"),
    ({"subnet": "172.30.16.0/28"}, "subnet", "172.30.16.0/28", "at least a /25"),
    ({"vip": "10.0.0.5"}, "vip", "10.0.0.5", "outside the subnet 172.30.16.0/24; take a free"),
    ({"vip": "the first"}, "vip", "the first", "is not an IPv4 address"),
    ({"vip": "172.30.16.12"}, "machines.pi2", "172.30.16.12", "is vip already"),
    ({"vip": "172.30.16.5"}, "vip", "172.30.16.5", "is the registry's already"),
    ({"vip": "172.30.16.255"}, "vip", "172.30.16.255", "is the broadcast's already"),
    (machines(address="192.168.1.11"), "machines.pi2", "192.168.1.11", "machines.pi1 already"),
    (machines(address="10.0.0.1"), "machines.pi2", "10.0.0.1", "outside the subnet"),
    (machines(name="pi1"), "machines.name", "pi1", "used twice"),
    (machines(name="pi_2"), "machines.name", "pi_2", "must be a host name"),
    (machines(user="-oProxyCommand=x"), "machines.user", "-oProxyCommand=x", "user name"),
    (machines(ssh_port="22"), "machines.ssh_port", "22", "from 1 to 65535"),
    ({"pis": 4}, "pis", 4, "say 3, 5 or 7"),
    ({"pis": 9}, "pis", 9, "say 3, 5 or 7"),
    ({**PI, "machines": PI["machines"][:2]}, "machines", 2, "list 3, 5 or 7"),
    ({**PI, "pis": 3}, "pis", 3, "leave it out where machines are listed"),
    ({"kind": "pi"}, "machines", None, r"list the real Pis, e.g. \[\[machines\]\]"),
    ({"machines": 3}, "machines", 3, "pis = 5"),
    ({**PI, "machines": ["pi1"]}, "machines", "pi1", "write a table for each"),
    ({**PI, "machines": [{"name": "pi1"}]}, "machines.address", None, "each machine needs one"),
    ({**PI, "ssh_key": ""}, "ssh_key", "", "which private key"),
    ({"platform": "linux/arm"}, "platform", "linux/arm", "auto, linux/amd64, linux/arm64"),
    ({"durability": "maybe"}, "durability", "maybe", "strict"),
    ({"map_server": "qgis"}, "map_server", "qgis", "auto, mapserver, geoserver"),
    ({"ports": 80}, "ports", 80, "write a table"),
    ({"ports": {"maps": 0}}, "ports.maps", 0, "from 1 to 65535"),
    ({"ports": {"maps": True}}, "ports.maps", True, "from 1 to 65535"),
    ({"ports": {"maps": 5432}}, "ports.maps", 5432, "each port once"),
    ({"ports": {"https": 80}}, "ports.maps", 80, "each port once"),
    ({"console": "yes"}, "console", "yes", "true or false"),
    ({"registry_port": 70000}, "registry_port", 70000, "from 1 to 65535"),
])
def test_a_wrong_setting_is_one_error_with_key_value_and_remedy(table, key, value, remedy):
    with pytest.raises(settings.SettingsError, match=remedy) as caught:
        settings.make(table)
    text = str(caught.value)
    assert (caught.value.key, caught.value.value) == (key, value)
    assert text.startswith(f"lab.toml: {key} = {value!r}: ") and "\n" not in text


def test_a_file_that_is_missing_or_no_toml_is_told_by_its_path(tmp_path):
    with pytest.raises(settings.SettingsError, match="gone.toml.*cannot be read"):
        settings.read(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(settings.SettingsError, match="bad.toml.*is not TOML"):
        settings.read(tmp_path / "bad.toml")


def test_two_labs_of_different_names_share_neither_folder_nor_secret():
    one = settings.make({})
    other = settings.make({"name": "second", "subnet": "172.30.17.0/24"})
    assert one.home != other.home and not one.network.overlaps(other.network)
    assert other.vip == "172.30.17.100" and other.machines[0].address == "172.30.17.11"
    assert one.secret("gis_password") != other.secret("gis_password")


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(home):
    lab = settings.make({})
    values = {name: lab.secret(name) for name in settings.SECRETS}
    assert len(set(values.values())) == len(values) and min(map(len, values.values())) >= 16
    for name, value in values.items():
        assert settings.make({}).secret(name) == value
        assert stat.S_IMODE((lab.home / "secrets" / name).stat().st_mode) == 0o600
    for folder in (lab.home, lab.home / "secrets"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_secrets_have_the_form_that_their_program_asks_for():
    lab = settings.make({})
    assert re.fullmatch(r"[0-9a-f-]{36}", lab.secret("consul_token"))
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", lab.secret("consul_gossip_key"))
    for name in ("gis_password", "haproxy_password", "reader_password"):
        assert re.fullmatch(r"[A-Za-z0-9]+", lab.secret(name)), "safe in any configuration file"


def test_auto_comes_to_the_map_server_that_the_last_up_settled_on():
    lab = settings.make({})
    assert lab.serves == "mapserver"
    (lab.home / "map_server").write_text("geoserver")
    assert lab.serves == "geoserver"
    assert settings.make({"map_server": "mapserver"}).serves == "mapserver"
