"""The house keeps its order: who may know whom, who may run commands, who may wait."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from gislab import settings

PROJECT = settings.PROJECT
PACKAGE = PROJECT / "gislab"


def dotted(path: Path) -> str:
    """Return the name of a module within gislab: `run`, or `loading.shapes` in a folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py")) if dotted(path)}
# Knowing one of these is knowing the Pis or the engine.
MACHINES = {"virtual", "nodes", "images", "registry", "swarm", "stack", "cluster", "vip",
            "doctor", "engine", "faults", "faults2016", "setup2016", "victims", "blows", "cuts",
            "clearance", "census", "experiment", "torture", "wars", "watch"}
DOORS = {"shell", "engine", "images"}  # the last two let a program run on, or write to a log
TEXT = {".py", ".sh", ".toml", ".md", ".yml", ".cfg", ".conf", ".ipynb", ".svg", ".sql", ".lua",
        ".txt", ".xml", ""}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@cache
def outside(name: str) -> set[str]:
    """Return the packages that a module imports from elsewhere, at any place in it."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


@cache
def inside(name: str) -> set[str]:
    """Return the modules of gislab that a module imports, at any place in it."""
    found = set()
    here = name.split(".")
    folder = here if MODULES[name].stem == "__init__" else here[:-1]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = folder[:len(folder) - node.level + 1]
            base = [*above, *(node.module.split(".") if node.module else [])]
            # what is imported is a module of that folder, or a name in that module
            named = {".".join([*base, alias.name]) for alias in node.names}
            found |= named & set(MODULES) or {".".join(base)}
    return found & set(MODULES)


def reached(name: str) -> set[str]:
    """Return the modules that are imported by a module, and by those, and so on."""
    seen, left = set(), [name]
    while left:
        above = left.pop()
        below = inside(above) - seen
        seen |= below
        left += below
    return seen


def calls(name: str) -> list[tuple[int, str]]:
    """Return (line, dotted name) of every call in a module."""
    return [(node.lineno, ast.unparse(node.func)) for node in ast.walk(tree(name))
            if isinstance(node, ast.Call)]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down_only(name):
    """No module is reached again from what it imports."""
    assert name not in reached(name)


@pytest.mark.parametrize("name", ["run", "history", "outage", "holders", "phases", "trials",
                                  "predict", "plot"])
def test_reading_a_run_needs_no_cluster(name):
    assert not reached(name) & MACHINES
    everything = set().union(*map(outside, reached(name) | {name}))
    assert not everything & {"docker", "psycopg", "httpx", "owslib", "requests", "subprocess"}


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.split(".")[0] in {
    "probe", "question", "loading", "catalog", "consul", "ows", "datasets"}))
def test_what_knows_a_url_knows_no_machine(name):
    assert not reached(name) & MACHINES and "docker" not in outside(name)


def test_settings_and_waiting_know_nothing_of_gislab():
    assert inside("settings") == inside("wait") == set() and inside("shell") == {"settings"}


def test_only_the_doors_run_commands():
    through = {name for name in MODULES if "subprocess" in outside(name)}
    through |= {name for name in MODULES for _, call in calls(name)
                if call in ("os.system", "os.popen", "asyncio.create_subprocess_exec")}
    assert through <= DOORS


def test_waiting_has_one_home():
    """A pause of a probe between two questions is no waiting; it is asyncio's."""
    found = [f"{name}.py:{line}" for name in MODULES if name != "wait"
             for line, call in calls(name) if call in ("time.sleep", "sleep", "_time.sleep")]
    assert found == []


def test_every_module_says_first_what_part_of_the_lab_it_is():
    silent = [name for name in MODULES if not ast.get_docstring(tree(name))]
    assert silent == []


def test_every_public_verb_says_what_it_does():
    silent = [f"{name}.{node.name}" for name in MODULES for node in tree(name).body
              if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
              and len(node.body) > 3 and not ast.get_docstring(node)]
    assert silent == []


def test_a_folder_is_a_module_that_outgrew_its_room_and_none_is_a_drawer_for_anything():
    """Whoever calls `loading.load` need not know whether loading is one file or ten."""
    assert not {"utils", "helpers", "common", "misc"} & {n.split(".")[-1] for n in MODULES}
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert folders - {"data"} <= set(MODULES), "a folder without verbs of its own"
    assert all(name.count(".") <= 1 for name in MODULES)


def test_what_lives_in_a_folder_is_known_by_its_folder_only():
    """`loading` hands out what others need of `loading.shapes`."""
    found = [f"{name} imports {other}" for name in MODULES for other in inside(name)
             if "." in other and other.split(".")[0] != name.split(".")[0]]
    assert found == []


def names_taken(path: Path) -> list[tuple[int, str, str]]:
    """Return (line, module, name) of each `module.name` for which a test asks gislab."""
    read = ast.parse(path.read_text())
    modules = {alias.asname or alias.name: alias.name for node in read.body
               if isinstance(node, ast.ImportFrom) and node.module == "gislab"
               for alias in node.names if alias.name in MODULES}
    own = {node.arg for node in ast.walk(read) if isinstance(node, ast.arg)}
    own |= {node.id for node in ast.walk(read)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return [(node.lineno, modules[node.value.id], node.attr) for node in ast.walk(read)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            and node.value.id in set(modules) - own]


def test_what_a_test_takes_from_gislab_is_there():
    """A live test may not run for days; that a name of it has changed shows here at once."""
    taken = [(path.name, *one) for path in sorted((PROJECT / "tests").rglob("*.py"))
             for one in names_taken(path)]
    gone = [f"{file}:{line}: {module}.{name}" for file, line, module, name in taken
            if not hasattr(importlib.import_module(f"gislab.{module}"), name)]
    assert len(taken) > 500 and gone == []


@cache
def kept() -> list[Path]:
    """Return the files that are, or would be, in the repository."""
    done = subprocess.run(["git", "-C", str(PROJECT), "ls-files", "--cached", "--others",
                           "--exclude-standard"], capture_output=True, text=True)
    if shutil.which("git") is None or done.returncode:
        pytest.skip("this is no git repository")
    return [PROJECT / line for line in done.stdout.splitlines() if (PROJECT / line).is_file()]


def lines():
    for path in kept():
        if path.suffix in TEXT and path != Path(__file__):
            text = path.read_text(errors="replace")
            yield from ((path.relative_to(PROJECT), line) for line in text.splitlines())


@pytest.mark.parametrize("what, pattern", [
    ("a home folder", r"/home/(?!\w+/?[`'\"]?\s*$|you|jovyan)\w+/|/Users/\w+/|/root/\.(?!ssh\b)"),
    ("a private key", r"BEGIN (RSA |EC |OPENSSH |)PRIVATE KEY"),
    ("a token", r"SWMTKN-1-[0-9a-z]{20}|gh[pousr]_\w{30}|AKIA[0-9A-Z]{16}"),
    ("a password in a URL", r"\w+://\w+:(?!\$|\{|<|\*|%)[^@/\s\"']{6,}@"),
    ("a machine's own package source", r"(deb|security|archive)\.(debian|ubuntu)\.(org|com)"
                                       r"|pypi\.org/simple|registry\.npmjs\.org"),
])
def test_no_kept_file_carries(what, pattern):
    found = [f"{path}: {line.strip()[:120]}" for path, line in lines() if re.search(pattern, line)]
    assert found == [], f"{what} is in the repository"


def test_no_secret_of_a_lab_of_this_machine_is_in_a_kept_file():
    folder = settings.root()
    secrets = {path.read_text().strip(): path for path in folder.glob("*/secrets/*")
               if path.is_file()} if folder.exists() else {}
    secrets.pop("", None)
    found = [f"{path} holds {secrets[value].name}" for path, line in lines()
             for value in secrets if value in line]
    assert found == []


def test_no_large_file_is_kept():
    large = [f"{path.relative_to(PROJECT)}: {path.stat().st_size}" for path in kept()
             if path.stat().st_size > 5_000_000]
    assert large == []


def test_the_errors_that_the_readme_explains_are_still_said():
    table = (PROJECT / "README.md").read_text().split("| It says |")[1].split("\n\n")[0]
    explained = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    said = "\n".join(node.value for name in MODULES for node in ast.walk(tree(name))
                     if isinstance(node, ast.Constant) and isinstance(node.value, str))
    assert len(explained) > 15 and [text for text in explained if text not in said] == []


def test_the_readme_names_every_verb_and_no_file_that_is_not_there():
    from gislab.cli import _parser

    text = (PROJECT / "README.md").read_text()
    verbs = next(a for a in _parser()._actions if a.choices and "up" in a.choices).choices
    assert [verb for verb in verbs if f"{verb}" not in text] == []
    links = re.findall(r"\]\((?!http)([^)]+)\)", re.sub(r"<!--.*?-->", "", text, flags=re.S))
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_ruff_has_nothing_to_say():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--quiet", str(PROJECT)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", sorted(
    str(p.relative_to(PROJECT)) for p in (PROJECT / "images").rglob("*.sh")))
def test_every_script_is_correct_shell_and_an_entrypoint_stops_at_the_first_mistake(script):
    text = (PROJECT / script).read_text()
    first, *rest = text.splitlines()
    assert first in ("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env bash")
    shell = first.rpartition("/")[2].split()[-1]
    assert subprocess.run([shell, "-n", str(PROJECT / script)]).returncode == 0
    assert not script.endswith("entrypoint.sh") or "set -Eeuo pipefail" in rest
