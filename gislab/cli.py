"""The lab's verbs from a shell: gislab up, status, down, doctor, images, experiment, ..."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import pandas as pd
import psycopg
from docker.errors import DockerException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import (
    backup,
    catalog,
    cluster,
    doctor,
    engine,
    experiment,
    faults,
    images,
    journal,
    nodes,
    plot,
    postgis,
    run,
    settings,
    setup2016,
    stack,
    swarm,
    torture,
    trials,
    wars,
)
from .database import first_line
from .wait import NotYet

# in a pipe or a log nobody scrolls sideways: 80 columns would cut headings into pieces
WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
CONSOLE = Console(soft_wrap=True, highlight=False, width=WIDTH)
MISTAKES = (ValueError, RuntimeError, OSError, KeyError, DockerException, NotYet)


def main(words: list[str] | None = None) -> int:
    """Run one verb; 0 when it did what was asked, 1 with one clear line when it did not."""
    options = _parser().parse_args(words)
    try:
        with _ctrl_c_counts():
            lab = settings.read(options.lab)
            _tell_notebooks(options.lab)
            if options.heals and not getattr(options, "list", False):
                experiment.heal(lab, say=_say)
            return options.do(lab, options) or 0
    except KeyboardInterrupt:
        CONSOLE.print("stopped; nothing is lost: the same command goes on from here")
        return 130
    except MISTAKES as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"gislab: {text}", file=sys.stderr)
        return 1
    except psycopg.Error as error:
        print(f"gislab: the database: {first_line(error)}; look at it with: gislab status",
              file=sys.stderr)
        return 1


def _tell_notebooks(lab_file: str | None) -> None:
    """Have the notebooks, which run in a folder of their own, mean the same files by a name."""
    for name, path in (("GISLAB_LAB", settings.file(lab_file)),
                       ("GISLAB_HOME", os.environ.get("GISLAB_HOME")),
                       ("GISLAB_GEOSERVER_WAR", os.environ.get("GISLAB_GEOSERVER_WAR"))):
        if path:
            os.environ[name] = str(Path(path).expanduser().absolute())


@contextlib.contextmanager
def _ctrl_c_counts():
    """Have a Ctrl-C come again that came while an object was taken apart: Python ignores that one.

    Not at once, or it would come while the hook is at work, and be ignored as well.
    """
    told = sys.unraisablehook

    def insist(failed) -> None:
        if issubclass(failed.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            told(failed)
    sys.unraisablehook = insist
    try:
        yield
    finally:
        sys.unraisablehook = told


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gislab", description=__doc__)
    parser.add_argument("--lab", metavar="FILE", help="a lab.toml; by default $GISLAB_LAB, "
                        "./lab.toml, or the virtual lab of three Pis")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name, do, about, heals=False):
        one = verbs.add_parser(name, help=about, description=about)
        one.set_defaults(do=do, heals=heals)  # heals: first undo what was left broken
        return one

    verb("doctor", _doctor, "say what this machine needs, has and lacks")
    verb("up", _up, "bring the whole lab up, and wait until everything answers")
    verb("status", _status, "say what runs where, and who holds what", heals=True)
    verb("down", _down, "remove the lab, and prove that nothing is left")
    build = verb("images", _images, "build the images, and say how large they are")
    build.add_argument("names", nargs="*", help="only these")
    build.add_argument("--platform", choices=settings.PLATFORMS)
    build.add_argument("--all", action="store_true", help="both map servers, and all the rest")
    build.add_argument("--plain", action="store_true",
                       help="emulate every program of an ARM build (slow), to compare")
    build.add_argument("--costs", action="store_true",
                       help="build nothing; say what each image took, natively and for ARM")
    publish = verb("publish", _publish, "have every map server serve a catalog, from a YAML file",
                   heals=True)
    publish.add_argument("file", type=Path)
    verb("catalog", _catalog, "say which version each map server holds, and which are kept")
    back = verb("rollback", _rollback, "have every map server serve an earlier version again",
                heals=True)
    back.add_argument("version", type=int)
    one = verb("seed", _seed, "have every map server draw tiles of a layer ahead", heals=True)
    one.add_argument("layer")
    one.add_argument("--zooms", nargs=2, type=int, default=(0, 5), metavar=("FIRST", "LAST"),
                     help="of Web Mercator; 0 5")
    one = verb("refresh", _refresh, "have every map server forget tiles, since data has changed",
               heals=True)
    one.add_argument("layers", nargs="*", metavar="LAYER", help="by default all that are tiled")
    scale = verb("scale", _scale, "run another number of map servers", heals=True)
    scale.add_argument("service")
    scale.add_argument("count", type=int)
    one = verb("backup", _backup, "back the database up, into the repository of each Pi",
               heals=True)
    one.add_argument("--full", action="store_true", help="everything, not only what changed")
    verb("backups", _backups, "say which backups there are, and what can be restored")
    one = verb("restore", _restore, "have the database as it was at a moment")
    one.add_argument("--to", metavar="TIME", help="e.g. 2026-11-23T14:05:09, or latest; without "
                     "it, an interrupted restore goes on")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one = verb("switchover", _switchover, "hand the primary's role to another member, as planned "
               "work does", heals=True)
    one.add_argument("--to", choices=settings.MEMBERS, help="this one; takes some seconds more "
                     "than whoever is first")
    one = verb("rolling-restart", _rolling_restart, "restart the members of the database one by "
               "one", heals=True)
    one.add_argument("--image", metavar="REFERENCE", help="run this image until the next "
                     "gislab up, by the name that the Pis pull it by")
    verb("heal", _heal, "undo a fault that an interrupted experiment left behind")
    for name, do, about in (("power-cut", nodes.power_cut, "take the power from a Pi"),
                            ("power-on", nodes.power_on, "give a Pi its power back"),
                            ("unplug", nodes.unplug, "pull a Pi's network cable"),
                            ("plug", nodes.plug, "put a Pi's network cable back"),
                            ("drain", swarm.drain, "move a Pi's services away, for maintenance"),
                            ("activate", swarm.activate, "let a drained Pi serve again")):
        # a plug is pulled, or put back, as it is; a Pi is drained in a lab that is whole
        one = verb(name, _on_pi(do), about, heals=do in (swarm.drain, swarm.activate))
        one.add_argument("pi")
    hurt = verb("torture", _torture, "break the database at random while writing, and count what "
                "is lost", heals=True)
    hurt.add_argument("--seconds", type=float, metavar="S", help="1800; with --quick 100")
    hurt.add_argument("--seed", type=int, default=1, help="the same seed, the same faults")
    hurt.add_argument("--faults", nargs="+", metavar="NAME", help="only these")
    hurt.add_argument("--quick", action="store_true", help="a few faults, in about three minutes")
    one = verb("experiment", _experiment, "break a part, again and again, and measure what it "
               "costs", heals=True)
    one.add_argument("fault", metavar="FAULT", nargs="?", help=", ".join(faults.ALL))
    one.add_argument("--list", action="store_true", help="break nothing; say of each fault what "
                     "one should see, and how it is undone")
    one.add_argument("--service", help="which one service_killed, service_frozen and "
                     "memory_limit strike")
    one.add_argument("--pi", help="on which Pi they do")
    one.add_argument("--force", action="store_true", help="even if the Pis that answer and are "
                     "not struck are no majority")
    one.add_argument("--trials", type=int, default=1, metavar="N", help="1; 6 for an interval")
    one.add_argument("--during", type=float, default=3, metavar="S", help="how long the fault "
                     "lasts at least; 3")
    one.add_argument("--settle", type=float, default=5, metavar="S", help="seconds between trials")
    one.add_argument("--rate", type=float, default=10, metavar="HZ", help="questions per second "
                     "of each kind")
    one.add_argument("--seed", type=int, default=1, help="of the moments at which it strikes")
    one.add_argument("--setup", choices=[setup2016.NAME], default="", help="break that set-up "
                     "instead: it takes the place of ours meanwhile")
    one.add_argument("--folder", type=Path, help="where the trials are kept; with one that is "
                     "there it goes on from it")
    two = verb("show", _show_runs, "tell and draw what was measured; needs no lab")
    two.add_argument("folder", type=Path, help="of a run, or of many")
    for each in (one, two):
        each.add_argument("--against", type=Path, metavar="FOLDER", help="saved runs to compare "
                          "with; exit code 1 if outages have become longer")
    book = verb("notebooks", _report, "run all notebooks and write reports/<time>/index.html",
                heals=True)
    book.add_argument("--out", type=Path, default=Path("reports"))
    book.add_argument("--only", nargs="*", metavar="NAME", help="e.g. 03 05")
    return parser


def _doctor(lab, options) -> int:
    findings = doctor.examine(lab)
    _show(doctor.table(findings), title=f"lab {lab.name}: this machine")
    return 0 if all(f.ok for f in findings) else 1


def _up(lab, options) -> None:
    engine.ensure(say=_say)
    missing = [f for f in doctor.examine(lab) if not f.ok]
    for finding in missing:
        _say(f"{finding.what}: needed {finding.needed}, found {finding.found}; {finding.remedy}")
    if missing:
        raise RuntimeError("this machine is not ready for the lab; see above, or gislab doctor")
    # on Pis that are all without power nothing can be undone yet
    dark = bool(journal.left(lab)) and not nodes.alive(lab)
    try:
        if not dark:
            experiment.heal(lab, say=_say)
        experiment.alone(lab)
    except (setup2016.InUse, experiment.AtWork):
        raise
    except MISTAKES as error:
        _say(f"not undone ({error}); bringing up all parts anyway")
    cluster.up(lab, say=_say)
    if dark:
        experiment.heal(lab, say=_say)


def _status(lab, options) -> None:
    now = cluster.status(lab)
    _say(f"lab {lab.name} ({lab.kind}), VIP {lab.vip}, maps by {lab.serves}")
    _say(now.safety)
    for table in (now.nodes, now.database, now.maps):
        _show(table)


def _down(lab, options) -> None:
    cluster.down(lab, say=_say)


def _images(lab, options) -> None:
    names = options.names or (list(images.plan()["images"]) if options.all else None)
    engine.ensure(say=_say)
    if options.costs:
        _show(images.costs(lab))
        return
    wars.decide(lab, say=_say)
    if names and "geoserver" in names and not options.names and wars.at_hand(lab) is None:
        names.remove("geoserver")
        _say("geoserver: left out, its WAR is not at hand (GISLAB_GEOSERVER_WAR=/path)")
    _show(images.build(lab, names, platform=options.platform, plain=options.plain,
                       say=_say))


def _publish(lab, options) -> None:
    catalog.publish(lab, catalog.read(options.file), running=_map_servers(lab), say=_say)


def _catalog(lab, options) -> None:
    _show(catalog.status(lab, _map_servers(lab)()), title="map servers")
    _show(catalog.versions(lab), title="versions")


def _rollback(lab, options) -> None:
    catalog.rollback(lab, options.version, running=_map_servers(lab), say=_say)


def _map_servers(lab):
    return lambda: stack.running(lab, "mapserver")


def _seed(lab, options) -> None:
    catalog.seed(lab, options.layer, tuple(options.zooms), running=_map_servers(lab), say=_say)


def _refresh(lab, options) -> None:
    catalog.refresh(lab, *options.layers, running=_map_servers(lab), say=_say)


def _scale(lab, options) -> None:
    stack.scale(lab, options.service, options.count, say=_say)


def _backup(lab, options) -> None:
    backup.take(lab, full=options.full, say=_say)


def _backups(lab, options) -> None:
    table = backup.table(lab)
    for column in ("start", "stop"):
        table[column] = [f"{moment.to_pydatetime().astimezone():%m-%d %H:%M:%S}"
                         for moment in table[column]]
    _show(table)
    first, last = backup.window(lab)
    _say(f"any moment from {first.astimezone().isoformat(' ', 'seconds')} to "
         f"{last.astimezone().isoformat(' ', 'seconds')} can be restored")


def _restore(lab, options) -> int:
    if options.to and not options.yes:
        _say(f"restore: {backup.plan(lab, options.to)}")
        try:
            answer = input("type yes to go on: ")
        except EOFError:
            answer = ""
        if answer.strip() != "yes":
            _say("nothing was changed; without a question: gislab restore --yes")
            return 1
    backup.restore(lab, options.to, confirm=True, say=_say)
    return 0


def _switchover(lab, options) -> None:
    postgis.switchover(lab, options.to, say=_say)


def _rolling_restart(lab, options) -> None:
    _show(postgis.rolling_restart(lab, options.image, say=_say))


def _heal(lab, options) -> None:
    experiment.heal(lab, say=_say)


def _torture(lab, options) -> int:
    names = options.faults or (torture.QUICK if options.quick else torture.HOLDS)
    seconds = options.seconds or (100 if options.quick else 1800)
    ordeal = torture.inflict(lab, seconds=seconds, seed=options.seed, names=names, say=_say)
    if not ordeal.safe:
        return 1
    if ordeal.interrupted:
        return 130
    return 0 if ordeal.recovered else 1


def _experiment(lab, options) -> int:
    if options.list or not options.fault:
        for fault, what, touches, see, undone, on_pis in faults.table(lab).itertuples(index=False):
            _say(f"{fault}: {what} (touches {touches})\n    see: {see}\n"
                 f"    undone: {undone}; on real Pis: {on_pis}")
        return 0 if options.list else 2
    chosen = {word: getattr(options, word) for word in ("service", "pi", "force")
              if getattr(options, word)}
    if chosen and options.setup:
        raise ValueError(f"--setup {options.setup} leaves nothing to choose: without --service, "
                         "--pi and --force")
    before = run.load_all(options.against) if options.against else []
    what = "-".join([options.fault, *map(str, filter(None, (options.service, options.pi)))])
    what += (f"-{options.setup}" if options.setup else "")
    folder = options.folder or run.folder_for(experiment.RUNS, f"{what}-trials")
    there = setup2016.standing(lab, say=_say) if options.setup else contextlib.nullcontext()
    try:
        with there:
            fault = (lambda lab: faults.named(lab, options.fault, **chosen)) if chosen else \
                options.fault
            made = experiment.repeat(lab, fault, options.trials, during=options.during,
                                     settle=options.settle, rate=options.rate,
                                     seed=options.seed, folder=folder, say=_say)
    except KeyboardInterrupt:
        old = f"--setup {options.setup} " if options.setup else "".join(
            f"--{word} {value} " if value is not True else f"--{word} "
            for word, value in chosen.items())
        _say(f"stopped; to go on: gislab experiment {options.fault} --trials {options.trials} "
             f"{old}--during {options.during:g} --folder {folder}; to look at what is there: "
             f"gislab show {folder}")
        return 130
    told = _tell(made, before, folder)
    return 0 if options.setup else told  # that set-up keeps no promise that could be broken


def _show_runs(lab, options) -> int:
    before = run.load_all(options.against) if options.against else []
    return _tell(run.load_all(options.folder), before, options.folder)


def _tell(made: list[run.Run], before: list[run.Run], folder: Path) -> int:
    """Show what runs cost, and draw it; 1 if writes were lost or it became worse."""
    for name, table in trials.tables(made, before).items():
        _show(table, title=name)
    _say("figures: " + " ".join(map(str, plot.write(made, folder / "figures", before=before))))
    return 1 if trials.worse(made, before) else 0


def _on_pi(do):
    def call(lab, options) -> None:
        do(lab, options.pi)
        _say(f"{options.pi}: {do.__name__.replace('_', ' ')}: done")
    return call


def _report(lab, options) -> int:
    from . import report  # Jupyter's libraries take as long to load as all else: only when needed
    return report.write(lab, out=options.out, only=options.only, say=_say)


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False)


def _written(value) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.1f}"  # NaN is unlike itself
    return str(value)


def _show(frame: pd.DataFrame, title: str | None = None) -> None:
    where = frame.columns.name  # of what was measured, see run.placed
    shown = Table(title=f"{title}: {where}" if title and where else title, title_justify="left")
    for column in frame.columns:
        right = pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool
        # as text: a unit in brackets is no markup
        shown.add_column(Text(str(column)), justify="right" if right else "left",
                         overflow="fold")
    for row in frame.itertuples(index=False):
        shown.add_row(*[Text(_written(v)) for v in row])
    CONSOLE.print(shown)


if __name__ == "__main__":
    sys.exit(main())
