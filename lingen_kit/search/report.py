"""What a search has found: `leaderboard.csv`, plots, and a page with the sample videos of every candidate."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lingen_kit.files import replacing
from lingen_kit.page import data_uri, escape, page, write
from lingen_kit.search import plots
from lingen_kit.search.progress import figure
from lingen_kit.search.proxy import pairs, verdict
from lingen_kit.search.records import Record, best, best_first, folder_of, pareto
from lingen_kit.search.settings import Search
from lingen_kit.search.space import describe, short_names
from lingen_kit.search.study import Study
from lingen_kit.search.training import run_folder

_WIDE = 1300  # pixels of a picture

LEADERBOARD = "leaderboard.csv"
PAGE = "report.html"


def write_report(study: Study) -> list[str]:
    """Write the tables, plots and the page of a study into its folder.

    Args:
        study: The study; it may still go on.

    Returns:
        What a person should know, in sentences; those that begin with `Warning` first.

    Raises:
        ValueError: If no candidate is complete.
    """
    records, search, folder = study.records(), study.search, study.folder
    done = [record for record in records if record.state == "complete"]
    if not done:
        failed = next((f": trial {r.number} failed, {r.reason}" for r in records if r.state == "failed"), "")
        raise ValueError(f"{folder} has nothing to report yet: no trial is complete{failed}")
    write_leaderboard(records, search, folder / LEADERBOARD)
    pictures = _pictures(records, search, folder)
    told = _summary(records, search)
    told += _proxy(records, search, folder, pictures)
    told.sort(key=lambda line: not line.startswith("Warning"))
    body = [f"<p{' class=bad' if line.startswith('Warning') else ''}>{escape(line)}</p>" for line in told]
    body += [f"<h2>{escape(title)}</h2>{_image(path, title)}" for title, path in pictures.items()]
    body += ["<h2>Candidates</h2>", _table(records, search)]
    body += ["<h2>Samples</h2>", _samples(study, records)]
    body += _left_out(records)
    write(folder / PAGE, page(f"Search {folder.name}", "\n".join(body)))
    return told


def write_leaderboard(records: Sequence[Record], search: Search, path: Path) -> None:
    """Write a row for each candidate, the best first: its figures with their standard errors, costs and choices."""
    logged = sorted({name for record in records for figures in record.results.values() for name in figures})
    figures = list(dict.fromkeys([*search.objectives, *(name for name in logged if _of_interest(name))]))
    names = [name for dimension in search.space.dimensions for name in dimension.names()]
    costs = [cost for cost in search.costs if cost not in figures]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    errors = [f"{name} standard error" for name in figures] if len(search.seeds) > 1 else []
    solved = [search.budget.key] if search.budget else []
    writer.writerow(
        ["trial", "state", "front", "seeds", *figures, *errors, *costs, *solved, "seconds", *names, "reason"]
    )
    ranked = best_first(records, search.objectives)
    front = {record.number for record in pareto(ranked, search.objectives)}
    rest = [record for record in records if record.state != "complete"]
    for record in [*ranked, *rest]:
        row: list[object] = [record.number, "baseline" if record.baseline else record.state]
        row += ["yes" if record.number in front else "", len(record.results)]
        row += [_cell(record.mean(name)) for name in figures]
        row += [_cell(record.error(name)) for name in figures] if errors else []
        row += [_cell(record.costs.get(cost, math.nan)) for cost in costs]
        row += [record.solved] if solved else []
        row += [_cell(sum(record.seconds.values())), *(record.params.get(name, "") for name in names), record.reason]
        writer.writerow(row)
    with replacing(path) as beside:
        beside.write_text(text.getvalue(), encoding="utf-8")


def _of_interest(name: str) -> bool:
    return not name.startswith(("train/", "throughput/", "lr-", "memory/"))


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _pictures(records: Sequence[Record], search: Search, folder: Path) -> dict[str, Path]:
    """Draw what there is to draw; titles and files."""
    pictures = {"Over time": folder / "history.png"}
    plots.plot_history(records, search, pictures["Over time"])
    if len(search.objectives) + len(plots.costs_that_count(search)) > 1:
        pictures["Quality and cost"] = folder / "pareto.png"
        plots.plot_pareto(records, search, pictures["Quality and cost"])
    found = plots.importances(records, search)
    if found:
        pictures["What matters"] = folder / "importance.png"
        plots.plot_importances(found, next(iter(search.objectives)), pictures["What matters"])
    if sum(record.state == "complete" for record in records) > 1:
        pictures["Choices"] = folder / "parallel.png"
        plots.plot_parallel(records, search, pictures["Choices"])
    return pictures


def _summary(records: Sequence[Record], search: Search) -> list[str]:
    counts = {state: sum(r.state == state for r in records) for state in ("complete", "pruned", "failed", "rejected")}
    seeds = f" with {len(search.seeds)} seeds each" if len(search.seeds) > 1 else ""
    size = search.space.size()
    hours = sum(sum(record.seconds.values()) for record in records) / 3600
    told = [
        f"{sum(counts.values()) - counts['rejected']} of {'endless' if math.isinf(size) else f'{int(size):,}'} "
        f"candidates were trained{seeds}, {hours:.2f} hours in all: {counts['complete']} to the end, "
        f"{counts['pruned']} pruned, {counts['failed']} failed. {counts['rejected']} were left out before training."
    ]
    if search.measured_at:
        told.append(f"FLOPs and latencies are of a pass over a video of {describe(search.measured_at)}.")
    winner, base = best(records, search.objectives), next((r for r in records if r.baseline), None)
    if winner is not None:
        had = ", ".join(f"{name} {figure(winner, name)}" for name in search.objectives)
        line = f"Recommended: trial {winner.number}, with {had}."
        if base is not None and base.state == "complete":
            beside = ", ".join(f"{name} {figure(base, name)}" for name in search.objectives)
            line = line[:-1] + f"; the baseline, trial {base.number}, has {beside}."
        if len(search.seeds) == 1 and counts["complete"] > 1:
            line += f" It is the best of {counts['complete']} trainings with one seed, so part of its lead is luck."
        told.append(line)
    return told


def _proxy(records: Sequence[Record], search: Search, folder: Path, pictures: dict[str, Path]) -> list[str]:
    """How far the search's own setting is to be trusted."""
    if search.proxy is None or not search.logged:
        return ["Warning: nobody has checked that the search's setting ranks candidates as a longer training does."]
    told = [
        f"Warning: the longer training of trial {record.number} failed: {record.reason_longer}."
        for record in records
        if record.reason_longer
    ]
    for pair in pairs(records, search):
        if len(pair.numbers) < 3:
            told.append(
                f"Warning: whether the search's setting ranks candidates as a longer training does is not known yet: "
                f"{len(pair.numbers)} of them were trained for longer, and 3 are needed."
            )
            continue
        found = pair.agreement()
        told.append(verdict(found, search.proxy, pair.name, pair.longer))
        number, value = pair.first(search.objectives[pair.name])
        told.append(f"After the longer training trial {number} is the first of them, with {pair.longer} {value:.4g}.")
        path = folder / f"proxy_{pair.name.rpartition('/')[2]}.png"
        plots.plot_proxy(pair, found, path)
        pictures[f"The search's setting against a longer training: {pair.name}"] = path
    return told


def _image(path: Path, title: str) -> str:
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        wide = image.width > _WIDE  # its labels would be too small to read: it is scrolled instead
    style = f"width:{_WIDE}px" if wide else "max-width:100%;min-width:20rem"
    return f'<div class="scroll"><img src="{data_uri(data, "image/png")}" alt="{escape(title)}" style="{style}"></div>'


def _table(records: Sequence[Record], search: Search) -> str:
    names = [name for dimension in search.space.dimensions for name in dimension.names()]
    costs = [cost for cost in search.costs if cost not in search.objectives]
    titles = ["trial", "state", *search.objectives, *costs, *short_names(names).values()]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    rows = []
    ranked = best_first(records, search.objectives)
    front = {record.number for record in pareto(ranked, search.objectives)}
    for record in [*ranked, *(r for r in records if r.state in ("pruned", "failed", "running"))]:
        state = "baseline" if record.baseline else "front" if record.number in front else record.state
        cells = [f'<td class="number">{record.number}</td>', f'<td title="{escape(record.reason)}">{state}</td>']
        cells += [f'<td class="number">{figure(record, name)}</td>' for name in [*search.objectives, *costs]]
        cells += [f"<td>{escape(record.params.get(name, ''))}</td>" for name in names]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _samples(study: Study, records: Sequence[Record]) -> str:
    """The last sample video of every candidate that has one."""
    shown = []
    for record in best_first(records, study.search.objectives):
        name = f"seed_{study.search.seeds[0]}"
        videos = sorted((run_folder(folder_of(study.folder, record.number), name) / "samples").glob("*.mp4"))
        if videos:
            uri = data_uri(videos[-1].read_bytes(), "video/mp4")
            first = next(iter(study.search.objectives))
            label = f"<b>{record.number}</b>{' baseline' if record.baseline else ''}, {figure(record, first)}"
            shown.append(
                f'<figure><video src="{uri}" autoplay loop muted playsinline></video>'
                f"<figcaption>{label}</figcaption></figure>"
            )
    if not shown:
        return '<p class="muted">No training wrote sample videos: add callbacks.LogSamples to the overrides.</p>'
    return f'<div class="grid">{"".join(shown)}</div>'


def _left_out(records: Sequence[Record]) -> list[str]:
    """Candidates that were rejected or failed, with the reason."""
    rows = [
        f'<tr><td class="number">{record.number}</td><td>{record.state}</td><td>{escape(record.reason)}</td></tr>'
        for record in records
        if record.state in ("rejected", "failed", "pruned")
    ]
    if not rows:
        return []
    return [
        f"<details><summary>{len(rows)} candidates that were left out, failed or pruned, and why</summary>"
        f'<div class="scroll"><table>{"".join(rows)}</table></div></details>'
    ]
