"""The page on which a person looks at what the filters did, keeps and drops clips, and writes captions.

"Manually identify cinematic videos, and manually caption them": the last step of LinGen's quality tuning (supplement,
Sec. E.3.3). The page needs no server and asks nothing of the network; decisions stay in the browser until they are
saved.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingen_kit.data.clip import Index
from lingen_kit.data.curation.config import Pipeline
from lingen_kit.data.curation.decide import CAPTIONED, PERSON, Verdict, labels
from lingen_kit.data.curation.decisions import FORMAT, Decision, as_entry
from lingen_kit.data.curation.distribution import histogram
from lingen_kit.data.curation.filter import Candidate, Limit, plain, unpack
from lingen_kit.data.curation.measure import PREVIEW, preview_path
from lingen_kit.data.curation.preview import strip
from lingen_kit.data.curation.review_assets import SCRIPT, STYLE
from lingen_kit.data.jobs import key_of_file
from lingen_kit.data.jobs.journal import Outcome
from lingen_kit.page import data_uri, escape, page, write

ON_A_PAGE = 500


def write_pages(
    out: Path,
    verdict: Verdict,
    pipeline: Pipeline,
    measured: Mapping[str, Mapping[str, Outcome]],
    index: Index,
    decisions: Mapping[str, Decision],
    *,
    most: int,
) -> list[Path]:
    """Write `index.html`, and `index-2.html` and so on where there are many clips.

    Args:
        out: The folder.
        verdict: What was decided.
        pipeline: By which filters.
        measured: What `measure_all` returned.
        index: Of the data set.
        decisions: Of a person, so far.
        most: How many clips to show, the kept ones first.

    Returns:
        The pages.
    """
    order = {stage.name: place for place, stage in enumerate(verdict.funnel)}
    order[CAPTIONED] = -1  # those that need a person next come right after the kept ones
    clips = sorted(verdict.clips, key=lambda clip: (not clip.kept, order.get(clip.dropped_by or "", 0)))[:most]
    limits = _limits(pipeline)
    count = max(1, math.ceil(len(clips) / ON_A_PAGE))
    paths = [out / ("index.html" if number == 0 else f"index-{number + 1}.html") for number in range(count)]
    keys = {clip.file_name: key_of_file(clip) for clip in index.clips}
    head = _summary(verdict, index, shown=len(clips)) + _distributions(verdict, pipeline, limits)
    for number, path in enumerate(paths):
        shown = clips[number * ON_A_PAGE : (number + 1) * ON_A_PAGE]
        cards = [_card(clip, _strip(out, clip, keys[clip.file], measured[clip.file]), limits) for clip in shown]
        parts = [
            f"<style>{STYLE}</style>",
            head if number == 0 else "",
            _pages(paths, number),
            _tools(shown, pipeline),
            f'<ul class="clips" aria-label="clips">{"".join(cards)}</ul>',
            '<p id="nothing" class="muted" hidden>No clip is like that.</p>',
            _pages(paths, number),
            f'<script type="application/json" id="info">{_info(out, index, decisions)}</script>',
            f"<script>{SCRIPT}</script>",
        ]
        title = f"Review of {Path(index.root).name or index.root}" + (f", page {number + 1}" if number else "")
        write(path, page(title, "\n".join(parts)))
    number = count + 1
    while (stale := out / f"index-{number}.html").is_file():  # of an earlier run with more clips
        stale.unlink()
        number += 1
    return paths


def _summary(verdict: Verdict, index: Index, shown: int) -> str:
    kept = verdict.kept
    rows = "".join(
        f'<tr><td>{escape(stage.name)}</td><td class="number">{stage.before}</td>'
        f'<td class="number">{stage.dropped or ""}</td><td class="number">{stage.before - stage.dropped}</td></tr>'
        for stage in verdict.funnel
    )
    parts = [
        f"<p><strong>{len(kept)} of {len(verdict.clips)} clips kept</strong>,"
        f" {sum(clip.seconds for clip in kept) / 60:.1f} minutes. {escape(index.layout)}.</p>",
        f"<p>{escape(verdict.origin)}.</p>",
        "<h2>What each filter dropped</h2>",
        '<div class="scroll"><table><thead><tr><th scope="col">filter</th><th scope="col" class="number">clips</th>'
        '<th scope="col" class="number">dropped</th><th scope="col" class="number">left</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>",
    ]
    if shown < len(verdict.clips):
        parts.append(f"<p>{shown} of {len(verdict.clips)} clips are shown below; scores.csv holds all.</p>")
    bad = [*verdict.unreadable, *index.unusable]
    if bad:
        listed = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in bad[:200])
        more = f"<li>and {len(bad) - 200} more, see report.json</li>" if len(bad) > 200 else ""
        parts.append(f"<details><summary>{len(bad)} files cannot be used</summary><ul>{listed}{more}</ul></details>")
    for name, report in verdict.reports.items():
        if concepts := report.get("concepts"):
            parts += [f"<h2>{escape(name)}</h2>", _concepts(concepts)]
    return "\n".join(parts)


def _concepts(concepts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{c["target"]:.0%}</td><td class="number">{c["before"]}</td>'
        f'<td class="number">{c["before_share"]:.0%}</td><td class="number">{c["after"]}</td>'
        f'<td class="number">{c["after_share"]:.0%}</td></tr>'
        for name, c in concepts.items()
    )
    heads = ["target", "before", "share", "after", "share"]
    head = '<th scope="col">concept</th>' + "".join(f'<th scope="col" class="number">{each}</th>' for each in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _limits(pipeline: Pipeline) -> dict[str, Limit]:
    """The tightest limits of each score."""
    limits: dict[str, Limit] = {}
    for each in pipeline.filters:
        for name, (least, greatest) in each.limits().items():
            before = limits.get(name, (None, None))
            lows = [value for value in (least, before[0]) if value is not None]
            highs = [value for value in (greatest, before[1]) if value is not None]
            limits[name] = (max(lows, default=None), min(highs, default=None))
    return limits


def _distributions(verdict: Verdict, pipeline: Pipeline, limits: Mapping[str, Limit]) -> str:
    explained = {name: words for each in pipeline.filters for name, words in each.explains.items()}
    plots = []
    for name, words in explained.items():
        kept, dropped = (
            [v for clip in verdict.clips if clip.kept == side and not math.isnan(v := clip.scores[name])]
            for side in (True, False)
        )
        if kept or dropped:
            plots.append(histogram(name, words, kept, dropped, limits.get(name, (None, None))))
    if not plots:
        return ""
    legend = (
        '<p class="muted"><span class="good">■</span> kept <span class="bad">■</span> dropped, for whatever reason;'
        " dashed: the limits</p>"
    )
    return f'<h2>Scores</h2>{legend}<div class="plots">{"".join(plots)}</div>'


def _tools(clips: Sequence[Candidate], pipeline: Pipeline) -> str:
    reasons = dict.fromkeys([CAPTIONED, *labels(pipeline.filters), PERSON])
    counts = {name: sum(clip.dropped_by == name for clip in clips) for name in reasons}
    by = "".join(
        f'<option value="by {escape(name)}">dropped: {escape(name)} ({count})</option>'
        for name, count in counts.items()
        if count
    )
    scores = dict.fromkeys(name for each in pipeline.filters for name in each.explains)
    ways = "".join(
        f'<option value="{escape(name)} down">{escape(name)}, high first</option>'
        f'<option value="{escape(name)} up">{escape(name)}, low first</option>'
        for name in scores
    )
    return f"""
<h2>Clips</h2>
<p>The filters have decided; what you decide here overrules them. <strong>Save decisions</strong>, then run the same
command again with <code>--decisions decisions.json</code>.
<span class="muted keys">Keys: arrows move, <kbd>k</kbd> keeps, <kbd>d</kbd> drops, <kbd>u</kbd> undoes, <kbd>e</kbd>
edits the caption, <kbd>Esc</kbd> leaves it.</span></p>
<p id="lost" class="bad" hidden>This browser stores nothing for this page: save your decisions before you close it.</p>
<div class="tools"><div class="sifting">
<label>show <select id="filter"><option value="all">all</option><option value="kept">kept</option>
<option value="dropped">dropped</option><option value="open">not decided by me</option>
<option value="mine">decided or edited by me</option>{by}</select></label>
<label>sort <select id="order"><option value="order">as they come</option>{ways}</select></label>
<label>find <input type="search" id="search" placeholder="word or name"></label>
<label><input type="checkbox" id="play"> play all</label>
</div>
<div class="saving">
<span class="count" id="count"></span>
<button type="button" id="forget">Forget</button>
<button type="button" id="save">Save decisions</button>
</div></div>
<div id="news" class="hidden" role="status" aria-live="polite"></div>"""


def _strip(out: Path, clip: Candidate, key: str, outcomes: Mapping[str, Outcome]) -> tuple[bytes, int] | None:
    return strip(clip, preview_path(out, key), unpack(outcomes[PREVIEW].value or {}))


def _card(clip: Candidate, film: tuple[bytes, int] | None, limits: Mapping[str, Limit]) -> str:
    scores = {name: None if math.isnan(value) else value for name, value in clip.scores.items()}
    state = "kept" if clip.kept else "dropped"
    said = f"{clip.dropped_by}: {clip.reason}" if clip.reason and clip.dropped_by != PERSON else ""
    why = f' <span class="why">{escape(said)}</span>' if said else ""
    if film:
        data, count = film
        picture = (
            f'<div class="film" style="--n:{count};--aspect:{clip.width / clip.height:.4f}">'
            f'<img src="{data_uri(data, "image/webp")}" alt="{count} frames of {escape(clip.name)}" decoding="async">'
            "</div>"
        )
    else:
        picture = '<span class="none">no preview</span>'
    values = "".join(
        f"<dt{_mark(name, value, limits)}>{escape(name)}</dt>"
        f"<dd{_mark(name, value, limits)}>{'-' if value is None else plain(value)}</dd>"
        for name, value in scores.items()
    )
    name = escape(clip.name)
    return f"""
<li class="clip" tabindex="-1" aria-label="{name}" data-name="{name}" data-kept="{int(clip.kept)}"
 data-by="{escape(clip.dropped_by or "")}" data-scores="{escape(json.dumps(scores))}">
<div class="stage">{picture}</div>
<div class="body">
<div class="verdict"><b data-plain="{escape(state)}">{escape(state)}</b>{why}</div>
<textarea rows="2" aria-label="caption of {name}" spellcheck="true">{escape(clip.caption)}</textarea>
<details><summary>{clip.seconds:.1f} s, {clip.width} x {clip.height}, scores</summary><dl>{values}</dl></details>
<div class="name">{name}</div>
<div class="choice"><button type="button" data-set="keep" aria-pressed="false">Keep<span class="hidden"> {name}</span>
</button><button type="button" data-set="drop" aria-pressed="false">Drop<span class="hidden"> {name}</span></button>
</div></div></li>"""


def _mark(name: str, value: float | None, limits: Mapping[str, Limit]) -> str:
    least, greatest = limits.get(name, (None, None))
    beyond = value is not None and (
        (least is not None and value < least) or (greatest is not None and value > greatest)
    )
    return ' class="at"' if beyond else ""


def _info(out: Path, index: Index, decisions: Mapping[str, Decision]) -> str:
    data = str(Path(index.root).resolve())
    identity = f"{data} {out.resolve()}"
    info = {
        "key": f"lingen_kit curation {hashlib.sha256(identity.encode()).hexdigest()[:16]}",
        "format": FORMAT,
        "data": data,
        "decisions": {name: as_entry(each) for name, each in decisions.items()},
    }
    return json.dumps(info).replace("<", "\\u003c")


def _pages(paths: Sequence[Path], current: int) -> str:
    if len(paths) == 1:
        return ""
    links = [
        f'<a href="{path.name}"{" aria-current=page" if number == current else ""}>'
        f"{f'<strong>page {number + 1}</strong>' if number == current else f'page {number + 1}'}</a>"
        for number, path in enumerate(paths)
    ]
    return f'<nav class="pages" aria-label="pages">{"".join(links)}</nav>'
