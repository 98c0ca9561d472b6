"""Style and script of the review page; `lingen_kit.page` has the style that all pages share."""

STYLE = """
.tools { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  padding: .6rem 0; margin: 1.5rem 0 .8rem; background: var(--ground); border-bottom: 1px solid var(--line); }
.sifting, .saving { display: flex; flex-wrap: wrap; gap: .5rem .7rem; align-items: center; }
.saving { flex: 1 1 22rem; flex-wrap: nowrap; }
.tools label { display: flex; gap: .4rem; align-items: center; font-size: .9rem; color: var(--muted); }
.tools select { max-width: 13rem; }
.tools input[type=search] { width: 8.5rem; }
.tools .count { flex: 1; font-size: .85rem; line-height: 1.3; }
.tools .primary { background: var(--accent); border-color: var(--accent); color: var(--ground); font-weight: 600; }
.clips { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr));
  align-items: start; list-style: none; margin: 0; padding: 0; }
.clip { display: flex; flex-direction: column; min-width: 0; background: var(--card); border-radius: .6rem;
  border: 2px solid transparent; overflow: hidden; scroll-margin: 5rem 0 1rem; }
.clip[hidden] { display: none; }
.clip:focus, .clip:focus-within { outline: none; border-color: var(--accent); }
.stage { display: grid; place-items: center; height: 9.6rem; background: #000; }
.film { overflow: hidden; width: min(100%, calc(9.6rem * var(--aspect))); }
.film img { display: block; width: calc(var(--n) * 100%); height: auto; }
.none { color: #bbb; font-size: .85rem; }
.clip:hover .film img, .clip:focus-within .film img, .playing .film img {
  animation: film calc(var(--n) * .4s) steps(var(--n)) infinite; }
@keyframes film { to { transform: translateX(-100%); } }
@media (prefers-reduced-motion: reduce) { .clip:hover .film img, .clip:focus-within .film img { animation: none; } }
.clip .body { display: flex; flex-direction: column; gap: .45rem; padding: .6rem .75rem .75rem; flex: 1; }
.verdict { font-size: .85rem; font-weight: 600; }
.clip .why { font-weight: 400; color: var(--muted); }
.clip .name { font-size: .75rem; color: var(--muted); }
.clip textarea { font: inherit; font-size: .9rem; line-height: 1.4; color: inherit; background: var(--ground);
  border: 1px solid var(--line); border-radius: .4rem; padding: .35rem .5rem; width: 100%; resize: vertical;
  min-height: 3.4rem; field-sizing: content; max-height: 14rem; }
.clip.edited textarea { border-color: var(--accent); }
.clip dl { display: grid; grid-template-columns: 1fr auto; gap: 0 .8rem; margin: 0; font-size: .78rem;
  font-variant-numeric: tabular-nums; color: var(--muted); }
.clip dd { margin: 0; text-align: right; }
.clip .at { color: var(--bad); font-weight: 600; }
.clip summary { font-size: .8rem; color: var(--muted); }
.choice { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; margin-top: auto; }
.choice button { min-height: 2.5rem; background: var(--ground); }
.choice [data-set=keep][aria-pressed=true] { background: var(--good); border-color: var(--good); color: var(--ground); }
.choice [data-set=drop][aria-pressed=true] { background: var(--bad); border-color: var(--bad); color: var(--ground); }
.clip.out .stage { opacity: .45; }
.clip.out:hover .stage, .clip.out:focus-within .stage { opacity: 1; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.plots figure { background: var(--card); border-radius: .6rem; padding: .7rem .8rem; }
.plots svg { display: block; width: 100%; height: auto; overflow: visible; }
.plots .in { fill: var(--good); } .plots .off { fill: var(--bad); opacity: .75; }
.plots .limit { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3; }
.plots .axis { stroke: var(--line); }
.ends { display: flex; justify-content: space-between; font-size: .75rem; color: var(--muted);
  font-variant-numeric: tabular-nums; }
kbd { font: inherit; font-size: .8rem; border: 1px solid var(--line); border-bottom-width: 2px; border-radius: .3rem;
  padding: 0 .35rem; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
nav.pages { display: flex; flex-wrap: wrap; gap: .3rem .8rem; margin: 1rem 0; }
@media (max-width: 40rem) {
  .tools { display: contents; }
  .sifting label { flex: 1 1 42%; } .sifting select, .sifting input[type=search] { flex: 1; width: 0; max-width: none; }
  .saving { position: sticky; top: 0; z-index: 2; background: var(--ground); padding: .5rem 0; margin-bottom: .6rem;
    border-bottom: 1px solid var(--line); }
  .saving button { padding: .35rem .6rem; }
  .keys { display: none; } }
"""

SCRIPT = """
'use strict';
const info = JSON.parse(document.getElementById('info').textContent);
const grid = document.querySelector('.clips');
const cards = [...grid.children];
const filter = document.getElementById('filter'), order = document.getElementById('order');
const search = document.getElementById('search'), count = document.getElementById('count');
const news = document.getElementById('news');
let state = {...info.decisions};
try { Object.assign(state, JSON.parse(localStorage.getItem(info.key) || '{}')); }
catch (error) { warn(); }

function warn() {
  document.getElementById('lost').hidden = false;
}
function store() {
  try { localStorage.setItem(info.key, JSON.stringify(state)); } catch (error) { warn(); }
  document.getElementById('save').classList.toggle('primary', Object.keys(entries()).length > 0);
}
function of(card) { return state[card.dataset.name] || {}; }
function change(card, part) {
  state[card.dataset.name] = {...of(card), ...part};
  show(card); tally(); store();
}
function isIn(card) {
  const decision = of(card).decision;
  return decision ? decision === 'keep' : card.dataset.kept === '1';
}
function show(card) {
  const own = of(card), area = card.querySelector('textarea');
  const text = own.text == null ? area.defaultValue : own.text;
  if (area.value !== text) area.value = text;
  card.classList.toggle('edited', text !== area.defaultValue);
  card.classList.toggle('out', !isIn(card));
  for (const button of card.querySelectorAll('[data-set]'))
    button.setAttribute('aria-pressed', String(own.decision === button.dataset.set));
  const line = card.querySelector('.verdict b');
  line.textContent = own.decision ? (own.decision === 'keep' ? 'kept by you' : 'dropped by you') : line.dataset.plain;
  line.className = isIn(card) ? 'good' : 'bad';
}
function tally() {
  const seen = cards.filter(card => !card.hidden).length;
  const decided = cards.filter(card => of(card).decision).length;
  const captions = cards.filter(card => card.classList.contains('edited')).length;
  count.textContent = `${cards.filter(isIn).length} of ${cards.length} kept, ${decided} decided by you` +
    (captions ? `, ${captions} captions edited` : '') + (seen < cards.length ? `; ${seen} shown` : '');
}
const tests = {
  all: () => true,
  kept: isIn,
  dropped: card => !isIn(card),
  mine: card => of(card).decision != null || card.classList.contains('edited'),
  open: card => of(card).decision == null,
};
function sift() {
  const test = tests[filter.value] || (card => card.dataset.by === filter.value.slice(3));
  const words = search.value.trim().toLowerCase();
  for (const card of cards) {
    const text = card.dataset.name.toLowerCase() + ' ' + card.querySelector('textarea').value.toLowerCase();
    card.hidden = !test(card) || !text.includes(words);
  }
  document.getElementById('nothing').hidden = cards.some(card => !card.hidden);
  roam(visible()[0]);
  tally();
}
function arrange() {
  const [name, way] = order.value.split(' ');
  const value = card => {
    const found = JSON.parse(card.dataset.scores)[name];
    return found == null ? Infinity : way === 'down' ? -found : found;
  };
  const sorted = name === 'order' ? cards : [...cards].sort((a, b) => value(a) - value(b));
  grid.append(...sorted);
  roam(visible()[0]);
}
function visible() { return [...grid.children].filter(card => !card.hidden); }
function roam(card) {
  for (const other of cards) other.tabIndex = other === card ? 0 : -1;
}
function go(card) {
  if (!card) return;
  roam(card);
  card.focus();
  card.scrollIntoView({block: 'nearest'});
}
function decide(card, decision) {
  const now = of(card).decision === decision ? null : decision;
  change(card, {decision: now});
  news.textContent = `${card.dataset.name}: ${now ? (now === 'keep' ? 'kept' : 'dropped') : 'left to the filters'}`;
}
grid.addEventListener('click', event => {
  const card = event.target.closest('.clip');
  if (!card) return;
  roam(card);
  const button = event.target.closest('[data-set]');
  if (button) decide(card, button.dataset.set);
  else if (event.target.closest('.stage')) card.focus();
});
grid.addEventListener('input', event => {
  const card = event.target.closest('.clip'), text = event.target.value;
  const same = text.trim() === event.target.defaultValue.trim() || !text.trim();
  // A caption that a person wrote before, and that the page came with, is still one.
  const given = (info.decisions[card.dataset.name] || {}).text ?? null;
  state[card.dataset.name] = {...of(card), text: same ? given : text};
  card.classList.toggle('edited', !same);
  tally(); store();
});
grid.addEventListener('focusout', event => {
  if (event.target.matches('textarea') && !event.target.value.trim()) show(event.target.closest('.clip'));
});
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const card = document.activeElement.closest('.clip');
  if (event.key === 'Escape' && card) { go(card); return; }
  if (document.activeElement.matches('textarea, input, select')) return;
  const shown = visible(), place = shown.indexOf(card);
  const across = shown.filter(other => other.offsetTop === shown[0].offsetTop).length || 1;
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across}[event.key];
  if (step && (card || document.activeElement === document.body)) {
    event.preventDefault();
    go(place < 0 ? shown[0] : shown[Math.min(Math.max(place + step, 0), shown.length - 1)]);
  } else if (card && (event.key === 'k' || event.key === 'd')) {
    event.preventDefault();
    decide(card, event.key === 'k' ? 'keep' : 'drop');
    go(shown[place + 1] || card);
  } else if (card && event.key === 'u') {
    change(card, {decision: null});
  } else if (card && event.key === 'e') {
    event.preventDefault();
    card.querySelector('textarea').focus();
  }
});
function entries() {
  // What this page came with and you took back is saved as taken back: decisions add up from run to run.
  return Object.fromEntries(Object.entries(state).filter(([name, own]) =>
    own.decision || own.text != null || name in info.decisions));
}
document.getElementById('save').addEventListener('click', () => {
  const content = JSON.stringify({format: info.format, data: info.data, decisions: entries()}, null, 1);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], {type: 'application/json'}));
  link.download = 'decisions.json';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  news.textContent = 'decisions.json saved';
});
document.getElementById('forget').addEventListener('click', () => {
  if (!confirm('Forget all that you decided and wrote on this page?')) return;
  for (const card of cards) { state[card.dataset.name] = {decision: null, text: null}; show(card); }
  store(); sift();
});
document.getElementById('play').addEventListener('change', event =>
  grid.classList.toggle('playing', event.target.checked));
filter.addEventListener('change', sift);
search.addEventListener('input', sift);
order.addEventListener('change', arrange);
cards.forEach(show);
store();
sift();
"""
