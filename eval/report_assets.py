"""Styles and scripts of the evaluation's pages; `lingen_kit.page` has the style that all pages share."""

COMMON_STYLE = """
.lead { color: var(--muted); margin-bottom: 1rem; }
.lead b { color: var(--ink); font-weight: 600; }
.tree { list-style: none; margin: 0; padding-left: 1rem; font-size: .88rem; overflow-wrap: anywhere; }
.tree span { color: var(--muted); }
.tree b { font-weight: 500; }
details > .tree { padding-left: .2rem; }
.warn { border-left: 4px solid var(--bad); background: var(--card); border-radius: 0 .6rem .6rem 0;
  padding: .7rem 1rem; margin: 1rem 0; overflow-wrap: anywhere; }
.warn ul { margin: .3rem 0; padding-left: 1.2rem; }
.pixels { image-rendering: pixelated; }
.table { overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; }
.table table { width: 100%; border-collapse: separate; border-spacing: 0; font-size: .86rem; }
.table th, .table td { padding: .38rem .7rem; }
.table thead th { background: var(--card); vertical-align: bottom; line-height: 1.25; }
.table tbody tr:last-child > * { border-bottom: 0; }
.table tr > :first-child { position: sticky; left: 0; z-index: 1; background: var(--ground); min-width: 8.5rem;
  overflow-wrap: break-word; }
.table thead tr > :first-child { background: var(--card); }
.table tbody th { font-weight: 500; color: var(--ink); }
.table .rest { font-size: .75rem; font-weight: 400; color: var(--muted); }
.missing { color: var(--muted); }
button:focus-visible, a:focus-visible, select:focus-visible, input:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 1px; }
button:disabled { opacity: .4; }
button.plain { border: 0; background: none; padding: 0; text-align: inherit; color: var(--accent); cursor: pointer;
  font: inherit; overflow-wrap: anywhere; }
button.plain:hover { text-decoration: underline; }
.bar { display: flex; flex-wrap: wrap; gap: .5rem .7rem; align-items: center; margin: .6rem 0; }
.bar input[type=search] { flex: 1 1 12rem; max-width: 22rem; min-width: 0; }
.bar .grow { flex: 1; }
.pager { display: flex; gap: .5rem; align-items: center; font-size: .9rem; }
.nothing { display: grid; place-items: center; text-align: center; padding: .6rem; background: var(--card);
  color: var(--muted); font-size: .82rem; border-radius: .4rem; border: 1px dashed var(--line); overflow-wrap: anywhere;
  min-height: 5rem; }
"""

REPORT_STYLE = (
    COMMON_STYLE
    + """
.tiles { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 11rem), 1fr));
  margin: 1rem 0; }
.tile { background: var(--card); border-radius: .6rem; padding: .7rem .9rem; min-width: 0; }
.tile span { display: block; color: var(--muted); font-size: .88rem; }
.tile b { font-size: 1.7rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile.refused b { font-size: 1.1rem; }
.tile p { font-size: .82rem; line-height: 1.4; margin: .1rem 0 0; overflow-wrap: anywhere; }
.ours > * { font-weight: 700; }
.table .ours > :first-child { box-shadow: inset 3px 0 var(--accent); }
.best { color: var(--good); font-weight: 650; }
.sorter { border: 0; background: none; padding: 0; font: inherit; color: inherit; text-align: inherit; cursor: pointer;
  position: relative; }
.sorter:hover { color: var(--accent); }
[aria-sort] .sorter { color: var(--ink); }
.sorter::after { content: "\\2195"; opacity: .35; margin-left: .25rem; }
[aria-sort=ascending] .sorter::after { content: "\\2191"; opacity: 1; }
[aria-sort=descending] .sorter::after { content: "\\2193"; opacity: 1; }
.one { border-top: 1px solid var(--line); padding: 1.1rem 0 1.4rem; display: grid; gap: .4rem 2rem;
  grid-template-columns: minmax(0, 15rem) minmax(0, 1fr) minmax(0, 1fr); align-items: start;
  scroll-margin-top: .5rem; }
.one > header { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: 0 1rem; align-items: baseline; }
.one h3 { margin: 0; font-size: 1.05rem; overflow-wrap: anywhere; min-width: 0; }
.one header b { font-size: 1.05rem; font-variant-numeric: tabular-nums; }
.one h4 { margin: 0 0 .4rem; font-size: .82rem; font-weight: 600; color: var(--muted); }
.one .why { font-size: .82rem; margin-top: .5rem; }
.histogram svg { display: block; width: 100%; height: auto; overflow: visible; margin-top: 1.4rem; }
.histogram rect { fill: var(--accent); }
.histogram line { stroke: var(--line); }
.histogram path { fill: var(--ink); }
.ends { display: flex; justify-content: space-between; gap: .5rem; font-size: .75rem; color: var(--muted);
  font-variant-numeric: tabular-nums; }
.players { display: grid; gap: .7rem; grid-template-columns: repeat(var(--n), minmax(0, 1fr)); }
.frame { position: relative; }
.frame video, .frame img { display: block; width: 100%; height: auto; border-radius: .4rem; max-height: 16rem;
  object-fit: contain; background: var(--card); }
.frame .go { position: absolute; inset: 0; border: 0; background: none; padding: 0; cursor: pointer; width: 100%; }
.frame .go::before { content: ""; position: absolute; left: .45rem; bottom: .45rem; width: 1.9rem; height: 1.9rem;
  border-radius: 50%; background: rgb(0 0 0 / .55); }
.frame .go::after { content: ""; position: absolute; left: 1.15rem; bottom: .95rem; border: solid transparent;
  border-width: .45rem 0 .45rem .7rem; border-left-color: #fff; }
.frame .go[aria-pressed=true]::after { left: 1.07rem; width: .65rem; height: .8rem; bottom: 1rem; border: solid #fff;
  border-width: 0 .2rem; }
.frame .go[aria-pressed=true]:not(:hover, :focus-visible)::before,
.frame .go[aria-pressed=true]:not(:hover, :focus-visible)::after { opacity: 0; }
.frame.broken::after { content: "this browser cannot play it"; position: absolute; inset: auto 0 0;
  padding: .2rem .4rem; background: rgb(0 0 0 / .65); color: #fff; font-size: .75rem; border-radius: 0 0 .4rem .4rem; }
.frame.broken .go { display: none; }
.players figcaption button { display: block; }
.players figcaption b { font-variant-numeric: tabular-nums; }
.two { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; }
#videos td.prompt, #videos td.name { min-width: 11rem; max-width: 22rem; }
#videos td .two { overflow-wrap: anywhere; }
#videos th.number { min-width: 6rem; white-space: normal; }
#videos .meter { display: block; height: 3px; border-radius: 2px; margin-top: .15rem;
  background: var(--accent); opacity: .55; }
dialog { border: 1px solid var(--line); border-radius: .8rem; background: var(--ground); color: var(--ink);
  width: min(60rem, calc(100vw - 1.5rem)); max-height: calc(100vh - 1.5rem); padding: 1rem 1.1rem; }
dialog::backdrop { background: rgb(0 0 0 / .55); }
dialog .in { display: grid; gap: 1rem 1.4rem; grid-template-columns: minmax(0, 1.4fr) minmax(0, 1fr); }
dialog video, dialog img { display: block; width: 100%; max-height: 70vh; object-fit: contain; background: #000;
  border-radius: .5rem; }
dialog h2 { margin: 0 2.6rem .6rem 0; font-size: 1rem; overflow-wrap: anywhere; }
dialog .close { position: absolute; top: .7rem; right: .8rem; padding: .1rem .6rem; }
dialog table { width: 100%; font-size: .86rem; }
dialog td { overflow-wrap: anywhere; }
dialog td:last-child { padding-right: 0; }
@media (max-width: 60rem) {
  .one { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .one > .spread { grid-column: 1 / -1; }
  .histogram { max-width: 24rem; } .histogram svg { margin-top: .4rem; } }
@media (max-width: 44rem) {
  .one { grid-template-columns: minmax(0, 1fr); gap: .9rem; }
  #videos td.name { min-width: 9rem; }
  dialog .in { grid-template-columns: minmax(0, 1fr); } }
"""
)

COMMON_SCRIPT = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child != null));
  return node;
}
function format(value, decimals) {
  const digits = {minimumFractionDigits: decimals, maximumFractionDigits: decimals};
  return value == null ? '\\u2013' : value.toLocaleString('en-US', digits);
}
function breakable(name) {
  return name.split(/(?<=[_/+])/).flatMap((part, at) => at ? [el('wbr'), part] : [part]);
}
class Pager {
  // Which part of a list is shown; `show` is called with it.
  constructor(box, size, noun, show) {
    Object.assign(this, {size, noun, show, rows: [], at: 0});
    this.back = el('button', {type: 'button', textContent: '\\u2039', ariaLabel: 'previous page'});
    this.on = el('button', {type: 'button', textContent: '\\u203a', ariaLabel: 'next page'});
    this.text = el('span', {className: 'muted'});
    this.text.setAttribute('aria-live', 'polite');
    this.back.onclick = () => this.go(this.at - 1);
    this.on.onclick = () => this.go(this.at + 1);
    box.append(this.back, this.text, this.on);
  }
  set(rows) { this.rows = rows; this.go(0); }
  go(at) {
    const count = Math.max(1, Math.ceil(this.rows.length / this.size));
    this.at = Math.min(Math.max(at, 0), count - 1);
    const first = this.at * this.size, part = this.rows.slice(first, first + this.size);
    const all = this.rows.length.toLocaleString('en-US');
    const shown = `${first + 1}\\u2013${first + part.length} of ${all} ${this.noun}`;
    this.text.textContent = part.length ? shown : `no ${this.noun}`;
    this.back.disabled = this.at === 0;
    this.on.disabled = this.at === count - 1;
    this.back.hidden = this.on.hidden = count === 1;
    this.show(part);
  }
}
"""

REPORT_SCRIPT = (
    COMMON_SCRIPT
    + """
// Players of the best and worst videos.
document.addEventListener('click', event => {
  const go = event.target.closest('.go');
  if (!go) return;
  const video = go.previousElementSibling;
  if (video.paused) video.play().catch(() => {}); else video.pause();
});
for (const video of document.querySelectorAll('.frame video')) {
  const go = video.nextElementSibling;
  video.addEventListener('play', () => go.setAttribute('aria-pressed', 'true'));
  video.addEventListener('pause', () => go.setAttribute('aria-pressed', 'false'));
  video.addEventListener('error', () => video.parentElement.classList.add('broken'));
}

// The table of all videos.
const figures = data.figures, videos = data.videos;
const NAME = -2, PROMPT = -1;
let order = {column: NAME, down: false}, sought = '';
const body = document.querySelector('#videos tbody'), heads = [...document.querySelectorAll('#videos th')];
function cell(video, column) {
  return column === NAME ? video.name : column === PROMPT ? video.prompt : video.values[column];
}
function compare(a, b) {
  const x = cell(a, order.column), y = cell(b, order.column);
  if (x == null || y == null) return (x == null) - (y == null);  // those without a value come last either way
  const less = order.column < 0 ? (x < y ? -1 : x > y ? 1 : 0) : x - y;
  return (order.down ? -less : less) || (a.at - b.at);
}
function row(video) {
  const two = text => el('span', {className: 'two', textContent: text});
  const name = el('button', {className: 'plain', type: 'button', title: video.name}, two(video.name));
  name.onclick = () => open(video);
  const cells = [el('td', {className: 'name'}, name)];
  if (data.prompts) cells.push(el('td', {className: 'prompt', title: video.prompt}, two(video.prompt)));
  figures.forEach((figure, at) => {
    const value = video.values[at];
    const item = el('td', {className: 'number', textContent: format(value, figure.decimals)});
    if (value == null) {
      item.className = 'number missing';
      item.title = video.why[at] || 'it was not asked for';
    } else if (figure.high > figure.low) {
      const meter = el('span', {className: 'meter'});
      meter.style.width = `${4 + 96 * (value - figure.low) / (figure.high - figure.low)}%`;
      item.append(meter);
    }
    cells.push(item);
  });
  return el('tr', {}, ...cells);
}
const pager = new Pager($('pager'), 50, 'videos', part => body.replaceChildren(...part.map(row)));
function arrange() {
  heads.forEach(head => {
    const own = Number(head.dataset.column) === order.column;
    if (own) head.setAttribute('aria-sort', order.down ? 'descending' : 'ascending');
    else head.removeAttribute('aria-sort');
  });
  const kept = videos.filter(video => `${video.name} ${video.prompt}`.toLowerCase().includes(sought));
  pager.set(kept.sort(compare));
}
for (const head of heads) head.querySelector('button').onclick = () => {
  const column = Number(head.dataset.column);
  order = {column, down: order.column === column ? !order.down : column >= 0};
  arrange();
};
$('search').addEventListener('input', event => { sought = event.target.value.trim().toLowerCase(); arrange(); });

// The leaderboard.
for (const head of document.querySelectorAll('#board [data-column]')) head.querySelector('button').onclick = () => {
  const down = head.getAttribute('aria-sort') !== 'descending', column = Number(head.dataset.column) + 1;
  const value = row => {
    const own = row.cells[column].dataset.value;
    return own == null ? -Number.MAX_VALUE : (down ? 1 : -1) * own;
  };
  document.querySelectorAll('#board [aria-sort]').forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const rows = document.querySelector('#board tbody');
  rows.append(...[...rows.rows].sort((a, b) => value(b) - value(a)));
};

// One video with all that is known of it.
const dialog = $('one');
function open(video) {
  const nothing = text => el('div', {className: 'nothing', textContent: text});
  let player = nothing(video.note);
  if (video.src && video.picture) player = el('img', {src: video.src, alt: video.name});
  else if (video.src) {
    player = el('video', {muted: true, controls: true, loop: true, autoplay: true, playsInline: true, src: video.src});
    player.addEventListener('error', () => player.replaceWith(nothing('This browser cannot play it.')));
  }
  if (Math.min(video.height, video.width) < 200) player.classList.add('pixels');
  const lines = figures.flatMap((figure, at) => {
    const value = video.values[at], why = video.why[at];
    if (value == null && why == null) return [];
    const cell = value == null ? {className: 'missing', textContent: why}
      : {className: 'number', textContent: format(value, figure.decimals)};
    return [el('tr', {}, el('td', {}, ...breakable(figure.name)), el('td', cell))];
  });
  const count = `${video.frames.toLocaleString('en-US')} frame${video.frames === 1 ? '' : 's'}`;
  const facts = `${video.width} x ${video.height}, ${count}, ${Number(video.fps.toPrecision(4))} fps`;
  $('detail').replaceChildren(
    el('h2', {textContent: video.name}),
    el('div', {className: 'in'}, el('div', {}, player, video.prompt ? el('p', {textContent: video.prompt}) : null,
      el('p', {className: 'muted', textContent: facts})), el('div', {}, el('table', {}, el('tbody', {}, ...lines)))));
  dialog.showModal();
}
dialog.addEventListener('close', () => $('detail').replaceChildren());
dialog.addEventListener('click', event => {
  if (event.target === dialog || event.target.closest('.close')) dialog.close();
});
for (const button of document.querySelectorAll('[data-video]'))
  button.addEventListener('click', () => open(videos[Number(button.dataset.video)]));
arrange();
"""
)
