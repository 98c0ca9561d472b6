"""Style and script of the page that shows several evaluations side by side."""

from eval.report_assets import COMMON_SCRIPT, COMMON_STYLE

STYLE = (
    COMMON_STYLE
    + """
body { max-width: max(76rem, min(100vw, calc(var(--models) * 24rem))); }
.table td.first, .table th.first { border-right: 1px solid var(--line); }
.table td .diff { font-size: .8rem; line-height: 1.35; color: var(--muted); white-space: nowrap; }
.table td .diff.good { color: var(--good); } .table td .diff.bad { color: var(--bad); }
.table td b { font-weight: 500; } .table td b.best { font-weight: 750; }
.mark { color: var(--bad); font-weight: 700; }
.tools { position: sticky; top: 0; z-index: 3; background: var(--ground); border-bottom: 1px solid var(--line);
  padding: .5rem 0 0; margin-top: 1rem; }
.tools .bar { margin: 0 0 .5rem; }
.tools button { min-width: 2.4rem; padding: .35rem .6rem; }
#all { min-width: 6.2rem; background: var(--accent); border-color: var(--accent); color: var(--ground);
  font-weight: 600; }
.cells { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(min(70vw, 13rem), 1fr); gap: 0 .9rem;
  overflow-x: auto; scrollbar-width: none; }
.cells::-webkit-scrollbar { display: none; }
.models > div { font-weight: 650; padding: .2rem 0 .45rem; min-width: 0; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.prompt { border-bottom: 1px solid var(--line); padding: .9rem 0 1rem; }
.prompt > header { display: flex; gap: .3rem 1rem; align-items: start; justify-content: space-between;
  margin-bottom: .55rem; }
.prompt h3 { font-weight: 500; margin: .2rem 0 0; overflow-wrap: anywhere; min-width: 0; white-space: pre-line; }
.prompt h3 span { color: var(--muted); font-size: .85rem; }
.prompt .control { display: flex; gap: .35rem; align-items: center; flex: none; }
.prompt .control button { padding: .2rem .55rem; min-width: 2.2rem; font-size: .9rem; }
.prompt .control .play { min-width: 4.1rem; }
.prompt .control output { color: var(--muted); font-size: .8rem; min-width: 4.4rem; text-align: right;
  font-variant-numeric: tabular-nums; }
.cell { min-width: 0; position: relative; }
.cell video, .cell img { display: block; width: 100%; height: auto; border-radius: .4rem; object-fit: cover;
  background: var(--card); }
.cell .nothing { aspect-ratio: 16 / 10; }
.cell dl { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 .8rem; margin: .4rem 0 0;
  font-size: .78rem; line-height: 1.45; font-variant-numeric: tabular-nums; color: var(--muted); }
.cell dt { overflow-wrap: anywhere; }
.cell dd { margin: 0; text-align: right; }
.cell dd.best { color: var(--ink); font-weight: 700; }
.cell dd.best::before { content: "\\25cf"; color: var(--good); font-size: .7em; margin-right: .35rem;
  vertical-align: .12em; }
.cell .file { font-size: .72rem; color: var(--muted); margin-top: .3rem; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
@media (max-width: 44rem) {
  .prompt > header { flex-direction: column; }
  .prompt .control { flex-direction: row; width: 100%; } .prompt .control output { order: 1; margin-left: auto; }
  #order { flex: 1 1 100%; min-width: 0; } }
"""
)

SCRIPT = (
    COMMON_SCRIPT
    + """
const figures = data.figures, list = $('rows'), shown = new Map();
let together = false, rate = 1;

function loaded(video) {
  // Wait until it can play; a phone that loads nothing before it plays, or a broken file, holds nobody up for long.
  return new Promise(done => {
    if (video.readyState >= 3) { done(); return; }
    for (const kind of ['canplay', 'error']) video.addEventListener(kind, done, {once: true});
    setTimeout(done, 2000);
    video.preload = 'auto';
  });
}

class Row {
  // The videos of one prompt, at one time.
  constructor(entry) {
    this.entry = entry; this.playing = false; this.turn = 0; this.videos = []; this.fps = null;
    this.button = el('button', {type: 'button', className: 'play', textContent: 'Play'});
    this.button.onclick = () => this.playing ? this.pause() : this.play();
    const back = el('button', {type: 'button', textContent: '\u2039', ariaLabel: 'one frame back'});
    const on = el('button', {type: 'button', textContent: '\u203a', ariaLabel: 'one frame on'});
    back.onclick = () => this.step(-1);
    on.onclick = () => this.step(1);
    this.clock = el('output', {textContent: ''});
    const title = el('h3', {}, entry.prompt);
    if (entry.sample) title.append(' ', el('span', {textContent: `video ${entry.sample}`}));
    const cells = el('div', {className: 'cells'}, ...entry.cells.map((cell, at) => this.cell(cell, at)));
    const control = this.videos.length ? el('div', {className: 'control'}, this.clock, back, this.button, on) : null;
    this.node = el('section', {className: 'prompt'}, el('header', {}, title, control), cells);
    this.tick();
  }
  cell(cell, at) {
    const run = data.runs[at];
    const nothing = text => el('div', {className: 'nothing', textContent: text});
    if (!cell) return el('div', {className: 'cell'}, nothing(`${run}: no video of this`));
    let player = nothing(cell.note);
    const size = {width: cell.width, height: cell.height};
    const label = `${run}: ${cell.name}`;
    if (cell.src && cell.picture) player = el('img', {src: cell.src, alt: label, ...size});
    else if (cell.src) {
      player = el('video', {muted: true, playsInline: true, preload: 'metadata', ariaLabel: label, ...size});
      if (cell.poster) { player.poster = cell.poster; player.preload = 'none'; }
      player.src = cell.src;
      this.fps = this.fps || cell.fps;
      this.videos.push(player);
      const video = player;
      video.addEventListener('ended', () => this.ended());
      video.addEventListener('timeupdate', () => this.follow());
      video.addEventListener('click', () => this.button.click());
      video.addEventListener('error', () => {
        this.videos = this.videos.filter(other => other !== video);
        video.replaceWith(nothing('This browser cannot play it.'));
        if (this.playing) this.ended();
      });
    }
    if (Math.min(cell.height, cell.width) < 200) player.classList.add('pixels');
    const lines = figures.flatMap((figure, place) => {
      const value = cell.values[place], why = cell.why[place];
      if (value == null && why == null) return [];
      const item = el('dd', {textContent: format(value, figure.decimals)});
      if (value == null) item.title = why;
      else if (this.best(place) === value) item.className = 'best';
      return [el('dt', {}, ...breakable(figure.name)), item];
    });
    const file = el('div', {className: 'file', title: cell.name, textContent: cell.name});
    return el('div', {className: 'cell'}, player, el('dl', {}, ...lines), file);
  }
  best(place) {
    const values = this.entry.cells.filter(cell => cell && cell.values[place] != null).map(cell => cell.values[place]);
    const least = Math.min(...values), most = Math.max(...values);
    return values.length < 2 || least === most ? null : figures[place].lower ? least : most;
  }
  get lead() { return this.videos.find(video => !video.ended) || this.videos[0]; }
  state(playing) {
    this.playing = playing;
    this.turn++;
    this.button.textContent = playing ? 'Pause' : 'Play';
    return this.turn;
  }
  async play() {
    if (!this.videos.length) return;
    const turn = this.state(true), videos = this.videos;
    await Promise.all(videos.map(loaded));
    if (turn !== this.turn) return;
    const over = videos.every(video => video.ended), time = over ? 0 : this.lead.currentTime;
    for (const video of videos) {
      if (Math.abs(video.currentTime - time) > .02 && !(video.ended && time > video.duration)) video.currentTime = time;
      video.playbackRate = rate;
    }
    for (const video of videos) if (!video.ended || over) video.play().catch(() => {});
    this.tick();
  }
  pause() {
    this.state(false);
    for (const video of this.videos) video.pause();
  }
  follow() {
    // One of them leads; who is off by more than a few hundredths of a second jumps to it.
    const lead = this.lead;
    if (!this.playing || !lead || lead.seeking) return;
    for (const video of this.videos) {
      if (video === lead || video.ended || video.paused || video.seeking) continue;
      if (Math.abs(video.currentTime - lead.currentTime) > .07 * rate)
        video.currentTime = Math.min(lead.currentTime, video.duration || 0);
    }
  }
  ended() {
    // A shorter one holds its last frame until all are through; then they begin again together.
    if (!this.playing || !this.videos.every(video => video.ended)) return;
    for (const video of this.videos) { video.currentTime = 0; video.play().catch(() => {}); }
  }
  async step(frames) {
    this.pause();
    const turn = this.turn;
    await Promise.all(this.videos.map(loaded));
    if (turn !== this.turn || !this.videos.length) return;
    const last = Math.round(Math.max(...this.videos.map(video => video.duration || 0)) * this.fps) - 1;
    const at = Math.max(0, Math.min(this.frame + frames, last));
    // The middle of a frame: no rounding shows its neighbor.
    for (const video of this.videos)
      video.currentTime = Math.min((at + .5) / this.fps, Math.max(0, (video.duration || 0) - .001));
    this.tick();
  }
  get frame() {
    // From 0 on, of the one that is furthest: a shorter one may be over.
    const time = Math.max(...this.videos.map(video => video.currentTime));
    const last = Math.max(...this.videos.map(video => video.duration || 0));
    return Math.max(0, Math.min(Math.floor(time * this.fps + .01), Math.round(last * this.fps) - 1));
  }
  tick() {
    if (!this.videos.length) return;
    this.clock.textContent = `frame ${this.frame + 1}`;
    const moves = this.playing || this.videos.some(video => video.seeking);
    if (this.node.isConnected && moves) requestAnimationFrame(() => this.tick());
  }
}

// Only rows in view play together; those that leave it pause.
const seen = new IntersectionObserver(changes => {
  for (const change of changes) {
    const row = shown.get(change.target);
    if (!row) continue;
    row.seen = change.isIntersecting;
    if (!together) continue;
    if (row.seen && !row.playing) row.play();
    else if (!row.seen && row.playing) row.pause();
  }
}, {threshold: .2});
function inView() { return [...shown.values()].filter(row => row.seen); }
function all(playing) {
  together = playing;
  $('all').textContent = playing ? 'Pause all' : 'Play all';
  if (playing) inView().forEach(row => row.play()); else shown.forEach(row => row.pause());
}
$('all').onclick = () => all(!together);
function step(frames) { all(false); inView().forEach(row => row.step(frames)); }
$('back').onclick = () => step(-1);
$('on').onclick = () => step(1);
$('rate').onchange = event => {
  rate = Number(event.target.value);
  shown.forEach(row => row.videos.forEach(video => { video.playbackRate = rate; }));
};
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest('button, input, select, summary, a')) return;
  const act = {' ': () => all(!together), ',': () => step(-1), '.': () => step(1)}[event.key];
  if (act) { event.preventDefault(); act(); }
});

// Columns of all rows and of the head move together.
let offset = 0;
document.addEventListener('scroll', event => {
  if (!event.target.classList?.contains('cells') || event.target.scrollLeft === offset) return;
  offset = event.target.scrollLeft;
  for (const cells of document.querySelectorAll('.cells')) if (cells.scrollLeft !== offset) cells.scrollLeft = offset;
}, true);

const pager = new Pager($('pager'), 12, 'rows', part => {
  shown.forEach(row => { row.pause(); seen.unobserve(row.node); });
  shown.clear();
  for (const entry of part) { const row = new Row(entry); shown.set(row.node, row); }
  list.replaceChildren(...shown.keys());
  shown.forEach((row, node) => { node.querySelector('.cells').scrollLeft = offset; seen.observe(node); });
});
for (const button of [pager.back, pager.on]) button.addEventListener('click', () => $('side').scrollIntoView());
function spread(entry, place) {
  const values = entry.cells.filter(cell => cell && cell.values[place] != null).map(cell => cell.values[place]);
  return values.length < 2 ? -1 : Math.max(...values) - Math.min(...values);
}
function arrange() {
  const words = $('search').value.trim().toLowerCase(), place = $('order').value;
  const rows = data.rows.filter(entry => entry.prompt.toLowerCase().includes(words));
  if (place !== '') rows.sort((a, b) => spread(b, place) - spread(a, place));
  pager.set(rows);
}
$('search').addEventListener('input', arrange);
$('order').addEventListener('change', arrange);
arrange();
"""
)
