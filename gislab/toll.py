"""What a torture cost: each fault's outage, what is wrong with the writes, a page.

All of it is worked out from the saved Run, without a cluster: an old report can be made anew.
"""

from __future__ import annotations

import itertools
from html import escape

import pandas as pd

from . import history, holders, outage, plot, predict, run, worldmap
from . import page as frame  # `page` is a verb here
from .history import Verdict
from .run import Run

VIP = ("sql_write", "write_primary")  # the lanes that a client of the lab would use
EDGE = 1.0  # seconds before a fault that belong to it: the last good answer is among them


def steps(made: Run) -> pd.DataFrame:
    """Return one line per fault: when, whom, how long, what it cost, how long it took to heal.

    `outage`: of the worse of the two ways through the VIP, up to the next fault. `by itself`:
    whether both answered again before the fault was undone. `whole after`: from the order to
    undo it until every part of the lab answered.
    """
    titles = made.settings.get("titles", {})
    lines = []
    for number, (begin, end, own) in enumerate(_windows(made), 1):
        at = own.drop_duplicates("kind").set_index("kind")["t"]
        cost = [outage.of(_part(made, begin - EDGE, end), lane) for lane in VIP]
        early = [outage.of(_part(made, begin - EDGE, at.get("undo", end)), lane) for lane in VIP]
        asked = _part(made, begin - EDGE, end).samples
        fault = own["fault"].iloc[0]
        lines.append({
            "#": number, "at [s]": round(begin, 1), "fault": titles.get(fault, fault),
            "whom": own["what"].iloc[0],
            "held [s]": round(at.get("undo", end) - begin, 1),
            "outage [s]": _worst(cost), "theory": _theory(fault),
            "by itself": "yes" if all(o.recovered for o in early) else "no",
            "whole after [s]": _healed(at), "unknown": int((asked["outcome"] == "unknown").sum()),
            "failed": int((asked["outcome"] == "failed").sum())})
    return pd.DataFrame(lines)


def rivals(made: Run) -> pd.DataFrame | None:
    """Return one line for each time that two members were counted as primary; None: nobody saw.

    `acknowledged by`: the servers that took writes that were sent in that time. If they are two,
    there were two writable primaries: whoever took a write that was sent when another one was
    primary already, was one still. (That one comes back within such a time is not thought of:
    each fault is followed by seconds of calm.)
    """
    spans = holders.rivals(made)
    if spans is None:
        return None
    acks = history.attempts(made.samples)
    acks = acks[(acks["outcome"] == "ok") & (acks["server"] != "")]
    return pd.DataFrame([
        {"at [s]": round(span.begin, 2), "for [s]": round(span.end - span.begin, 2),
         "counted as primary": span.who, "acknowledged by": ", ".join(sorted(set(
             acks.loc[acks["sent"].between(span.begin, span.end), "server"])))}
        for span in spans], columns=["at [s]", "for [s]", "counted as primary", "acknowledged by"])


def primaries(made: Run) -> str:
    """Say whether there was at most one writable primary at any time."""
    found = rivals(made)
    if found is None:
        return "how many primaries there were at a time was not seen: nobody watched"
    if found.empty:
        return "never was more than one member counted as primary"
    both = found[found["acknowledged by"].str.contains(",")]
    if len(both):
        line = both.iloc[0]
        return (f"two writable primaries, {len(both)} times: at {line['at [s]']:.1f} s "
                f"{line['counted as primary']} were counted as primary, and both "
                f"{line['acknowledged by']} acknowledged")
    return (f"at most one writable primary at any time; {len(found)} times two members were "
            f"counted as primary, for {found['for [s]'].max():.1f} s at the most, and never did "
            "both acknowledge")


def complaints(made: Run, verdict: Verdict) -> list[str]:
    """Say what is wrong with the writes, each in a line; nothing is what one hopes for."""
    found = []
    if not verdict.acknowledged:
        found.append("no write was acknowledged: nothing was tested")
    if made.settings.get("unread"):
        found.append(f"not every member could be read: {made.settings['unread']}")
    elif not verdict.readings:
        found.append("no member was read")
    found += [f"{what}: {', '.join(map(str, rows[:8]))}" + (", ..." if len(rows) > 8 else "")
              for what, rows in verdict.broken.items()]
    twice = rivals(made)
    if twice is not None and twice["acknowledged by"].astype(str).str.contains(",").any():
        found.append(primaries(made))
    hashes = made.settings.get("hashes", {})
    if len(set(hashes.values())) > 1:
        found.append("the members' content differs: "
                     + ", ".join(f"{member} {value}" for member, value in hashes.items()))
    return found


def summary(made: Run, verdict: Verdict) -> dict:
    """Return what a program would want to know of it, as JSON can hold it."""
    return {
        "seed": made.settings["seed"], "seconds": made.settings["seconds"],
        "replay": f"make torture SECONDS={made.settings['seconds']:g} "
                  f"SEED={made.settings['seed']}",
        "ended": made.settings.get("ended", ""),
        "safe": not complaints(made, verdict), "complaints": complaints(made, verdict),
        "acknowledged": verdict.acknowledged, "refused": verdict.refused,
        "unanswered": verdict.unanswered,
        **{kind: list(getattr(verdict, kind)) for kind in history.BROKEN},
        "happened": len(verdict.happened), "vanished": len(verdict.vanished),
        "read_from": list(verdict.readers), "hashes": made.settings.get("hashes", {}),
        "primaries": {"said": primaries(made), "two_counted": None if rivals(made) is None
                      else rivals(made).to_dict("records")},
        "timelines": _timelines(made), "faults": steps(made).to_dict("records"),
        "not_recovered": _told(made, "not recovered"), "not_made": _told(made, "not made")}


def page(made: Run, verdict: Verdict) -> str:
    """Return the report as one HTML page with its pictures in it."""
    wrong = complaints(made, verdict)
    told = [f"{fault}: {what}" for kind in ("not recovered", "not made")
            for fault, what in _told(made, kind)]
    attempts = history.attempts(made.samples)
    facts = pd.DataFrame([
        ("seed", made.settings["seed"]), ("asked for", f"{made.settings['seconds']:g} s"),
        ("ended", made.settings.get("ended", "")), ("lab", made.settings.get("lab", "")),
        ("kind", made.settings.get("kind", "")), ("started", made.settings.get("started", "")),
        ("acknowledged writes", verdict.acknowledged),
        ("unanswered, happened / did not", f"{len(verdict.happened)} / {len(verdict.vanished)}"),
        ("timelines that acknowledged", ", ".join(_timelines(made))),
        ("primaries at a time", primaries(made)),
        ("content hashes", ", ".join(f"{m} {h}" for m, h in
                                     made.settings.get("hashes", {}).items()))])
    return frame.write(f"Torture, seed {made.settings['seed']}", BODY.format(
        verdict="passed" if not wrong else "failed",
        said=f"{verdict.acknowledged} acknowledged writes, none lost" if not wrong
        else escape("; ".join(wrong)),
        replay=escape(summary(made, verdict)["replay"]),
        facts=facts.to_html(index=False, header=False, border=0),
        told="".join(f"<li>{escape(line)}</li>" for line in told) or "<li>nothing</li>",
        steps=steps(made).to_html(index=False, border=0),
        readers=verdict.table().to_html(index=False, border=0),
        timeline=_image(timeline(made)),
        map=_image(worldmap.draw(history.places(verdict, attempts)))))


def timeline(made: Run) -> plot.Picture:
    """Draw when each worker's writes were acknowledged, and when which fault lasted; below, if
    the lab was watched, who held what.
    """
    held = holders.spans(made)
    heights = [0.7 + 0.5 * len(made.probes)] + [0.3 * len(held) + 0.15] * bool(held)
    figure = plot.Picture(figsize=(11, 0.6 + sum(heights)))
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axis, *_ = axes = axes[:, 0]
    for begin, end, own in _windows(made):
        at = own.drop_duplicates("kind").set_index("kind")["t"]
        colour = made.settings.get("colours", {}).get(own["fault"].iloc[0], "#F0E442")
        for part in axes:
            part.axvspan(begin, at.get("undo", end), color=colour, alpha=0.45, lw=0)
            part.axvspan(at.get("undo", end), at.get("undone", end), color="#DDDDDD", lw=0)
    for y, lane in enumerate(made.probes):
        own = made.samples[made.samples["probe"] == lane]
        for outcome, colour, size in (("ok", "#0072B2", 3), ("failed", "#D55E00", 9),
                                      ("unknown", "#000000", 9)):
            points = own[own["outcome"] == outcome]
            axis.scatter(points["sent"], [y] * len(points), c=colour, s=size, marker="|",
                         linewidths=1, label=outcome if y == 0 else None)
    axis.set_yticks(range(len(made.probes)), made.probes)
    if held:
        plot.strip(axes[-1], made, held)
    axes[-1].set_xlabel("seconds since the beginning; faults in their colours, mending in grey")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, markerscale=3)
    figure.alt = "; ".join([
        f"Writes of {len(made.probes)} workers under {len(list(_windows(made)))} faults",
        *plot.told(held)])
    return figure


def _windows(made: Run):
    """Yield (strike, until the next strike or the end, its events) of each fault that was made."""
    strikes = made.events.index[made.events["kind"] == "strike"].tolist()
    last = max([0.0, *made.samples["sent"], *made.events["t"]])
    for here, following in itertools.zip_longest(strikes, strikes[1:]):
        end = last if following is None else float(made.events["t"][following])
        own = made.events.loc[here:] if following is None else made.events.loc[here:following - 1]
        yield float(made.events["t"][here]), end, own[own["fault"] == own["fault"].iloc[0]]


def _part(made: Run, begin: float, end: float) -> Run:
    inside = made.samples["sent"].between(begin, end, inclusive="left")
    return run.make(made.samples[inside])


def _worst(found: list[outage.Outage]) -> float | str:
    if not all(o.recovered for o in found):
        return "not recovered"
    return round(max(o.outage for o in found), 1)


def _theory(fault: str) -> str:
    try:
        return str(max((predict.outage(fault, lane) for lane in VIP), key=lambda p: p.most))
    except KeyError:
        return str(predict.NO_THEORY)


def _healed(at: pd.Series) -> float | str:
    if "not recovered" in at or "undone" not in at:
        return "not recovered"
    return round(at["undone"] - at["undo"], 1)


def _timelines(made: Run) -> list[str]:
    """Return each timeline that acknowledged writes, with its servers and how many."""
    acks = history.attempts(made.samples)
    acks = acks[(acks["outcome"] == "ok") & acks["timeline"].notna()]
    return [f"{timeline}: {len(group)} by {', '.join(sorted(set(group['server'])))}"
            for timeline, group in acks.groupby("timeline")]


def _told(made: Run, kind: str) -> list[tuple[str, str]]:
    own = made.events[made.events["kind"] == kind]
    return list(zip(own["fault"], own["what"], strict=True))


def _image(picture: plot.Picture) -> str:
    return frame.image(picture._repr_mimebundle_()[0]["image/png"], picture.alt)


BODY = """
<p class="{verdict}">{said}</p>
<p>The same again: <code>{replay}</code></p>
{facts}
<h2>Faults</h2>{steps}
{timeline}
<h2>What did not come back, or could not be made</h2><ul>{told}</ul>
<h2>Writes, as each member held them at the end</h2>{readers}
{map}
"""
