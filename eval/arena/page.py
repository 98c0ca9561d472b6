"""The page that raters see, served or as one file: two players in step, two questions, nothing that names a model."""

import json
from collections.abc import Mapping
from typing import Any

from lingen_kit.page import page

__all__ = ["arena_page"]

_STYLE = """
body { max-width: 72rem; }
#start { max-width: 28rem; display: grid; gap: .8rem; }
#start input { width: 100%; padding: .7rem; }
.prompt { font-size: 1.1rem; margin: .2rem 0 .8rem; }
.players { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; }
.players figure { background: var(--card); border-radius: .6rem; padding: .6rem; }
.players video { width: 100%; max-height: 46vh; object-fit: contain; image-rendering: pixelated;
  background: var(--card); }
.players figcaption { text-align: center; font-weight: 600; }
.bar { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .7rem 0; }
fieldset { border: 0; padding: 0; margin: 1rem 0; }
legend { font-weight: 600; padding: 0; margin-bottom: .4rem; }
.answers { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: .5rem; }
button { min-height: 2.9rem; cursor: pointer; }
button:focus-visible, input:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
button[aria-pressed="true"] { background: var(--accent); border-color: var(--accent); color: var(--ground); }
button.main { background: var(--accent); border-color: var(--accent); color: var(--ground); font-weight: 600; }
button:disabled { opacity: .45; cursor: default; }
kbd { font: inherit; font-size: .78em; border: 1px solid currentColor; border-radius: .25rem; padding: 0 .3em;
  opacity: .7; }
progress { width: 100%; height: .5rem; accent-color: var(--accent); }
@media (max-width: 40rem) { .players { gap: .4rem; } .players figure { padding: .3rem; } kbd { display: none; }
  .players video { max-height: 38vh; } }
.questions { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; }
@media (max-width: 40rem) { .questions { grid-template-columns: 1fr; } fieldset { margin: .5rem 0; } }
[hidden] { display: none !important; }
"""

_BODY = """
<form id="start">
  <p>You will see two videos of the same text. Say which looks better, and which shows the text better. There is no
  right answer, and nothing tells which model made which.</p>
  <label for="name">Your name, or any other that you will use again</label>
  <input id="name" required maxlength="60" autocomplete="name">
  <button class="main">Begin</button>
</form>
<main id="arena" hidden>
  <progress id="progress" max="1" value="0" aria-label="progress"></progress>
  <p class="muted" id="count" aria-live="polite"></p>
  <p class="prompt" id="prompt"></p>
  <div class="players">
    <figure><video id="left" muted playsinline preload="auto"></video><figcaption>left</figcaption></figure>
    <figure><video id="right" muted playsinline preload="auto"></video><figcaption>right</figcaption></figure>
  </div>
  <div class="bar">
    <button type="button" id="play">Pause <kbd>space</kbd></button>
    <button type="button" id="back" aria-label="a frame back">&#8249; frame <kbd>,</kbd></button>
    <button type="button" id="forward" aria-label="a frame forward">frame &#8250; <kbd>.</kbd></button>
    <button type="button" id="again">From the start <kbd>r</kbd></button>
  </div>
  <p id="problem" class="bad" role="alert" hidden></p>
  <div class="questions">
  <fieldset data-question="quality"><legend>Which looks better?</legend><div class="answers">
    <button type="button" data-answer="left">Left <kbd>1</kbd></button>
    <button type="button" data-answer="tie">Equal <kbd>2</kbd></button>
    <button type="button" data-answer="right">Right <kbd>3</kbd></button></div></fieldset>
  <fieldset data-question="text"><legend>Which shows the text better?</legend><div class="answers">
    <button type="button" data-answer="left">Left <kbd>4</kbd></button>
    <button type="button" data-answer="tie">Equal <kbd>5</kbd></button>
    <button type="button" data-answer="right">Right <kbd>6</kbd></button></div></fieldset>
  </div>
  <div class="bar">
    <button type="button" class="main" id="next" disabled>Next <kbd>enter</kbd></button>
    <button type="button" id="skip">Cannot be judged</button>
  </div>
</main>
<section id="end" hidden>
  <h2>Thank you.</h2><p>You have answered everything.</p>
</section>
<p id="give" hidden><button type="button" id="download">Download your votes</button>
  <span class="muted">and send the file to whom you have this page from.</span></p>
"""

# One store of answers with two homes: the server, or this page's own storage.
_SCRIPT = """
'use strict';
const $ = (id) => document.getElementById(id);
const offline = STUDY !== null;
let rater = '', tasks = [], place = 0, answers = {}, shown = 0, busy = false, playing = true;

const home = offline ? {
  key: () => `arena ${STUDY.id} ${rater}`,
  votes() { return JSON.parse(localStorage.getItem(this.key()) || '[]'); },
  async tasks() {
    let hash = 0;
    for (const letter of rater) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
    const done = new Set(this.votes().map((vote) => [vote.left, vote.right].sort().join(' ')));
    return STUDY.orders[hash % STUDY.orders.length].map(([left, right], number) => ({
      number, left, right, prompt: STUDY.prompts[STUDY.videos[left].prompt],
      done: done.has([left, right].sort().join(' ')) }));
  },
  source: (id) => STUDY.videos[id].source,
  async send(vote) {
    const votes = this.votes();
    votes.push(vote);
    localStorage.setItem(this.key(), JSON.stringify(votes));
  },
} : {
  async tasks() { return (await ask('/api/tasks?rater=' + encodeURIComponent(rater))).tasks; },
  source: (id) => '/video/' + id,
  send: (vote) => ask('/api/vote', vote),
};

async function ask(address, body) {
  const headers = { 'Content-Type': 'application/json' };
  const options = body && { method: 'POST', headers, body: JSON.stringify(body) };
  const answer = await fetch(address, options);
  if (!answer.ok) throw new Error((await answer.text()) || answer.statusText);
  return answer.json();
}

function say(text) { $('problem').textContent = text; $('problem').hidden = !text; }

const videos = () => [$('left'), $('right')];

function play(on) {
  playing = on;
  $('play').firstChild.data = on ? 'Pause ' : 'Play ';
  for (const video of videos()) on ? video.play().catch(() => {}) : video.pause();
}

function restart() { for (const video of videos()) video.currentTime = 0; play(true); }

function step(by) {
  play(false);
  for (const video of videos()) video.currentTime = Math.max(0, video.currentTime + by / 24);
}

function show() {
  const left = tasks.filter((task) => !task.done);
  $('progress').max = tasks.length;
  $('progress').value = tasks.length - left.length;
  $('count').textContent = `${tasks.length - left.length} of ${tasks.length} done`;
  $('arena').hidden = left.length === 0;
  $('end').hidden = left.length !== 0;
  $('give').hidden = !offline;
  if (!left.length) return;
  place = tasks.indexOf(left[0]);
  answers = {};
  say('');
  $('prompt').textContent = left[0].prompt;
  for (const side of ['left', 'right']) { $(side).src = home.source(left[0][side]); $(side).load(); }
  shown = performance.now();
  play(true);
  mark();
}

function mark() {
  for (const button of document.querySelectorAll('[data-answer]')) {
    const question = button.closest('fieldset').dataset.question;
    button.setAttribute('aria-pressed', answers[question] === button.dataset.answer);
  }
  $('next').disabled = busy || !(answers.quality && answers.text);
}

async function vote(skipped = '') {
  if (busy || (!skipped && !(answers.quality && answers.text))) return;
  busy = true;
  mark();
  const task = tasks[place];
  try {
    await home.send({ rater, task: task.number, left: task.left, right: task.right, skipped,
      quality: skipped ? '' : answers.quality, text: skipped ? '' : answers.text,
      seconds: Math.round((performance.now() - shown) / 100) / 10, time: new Date().toISOString() });
    task.done = true;
    busy = false;
    show();
  } catch (error) {
    busy = false;
    mark();
    say(`The vote was not kept (${error.message}). Press Next again.`);
  }
}

async function begin(name) {
  rater = name;
  try {
    tasks = await home.tasks();
  } catch (error) { alert(error.message); return; }
  sessionStorage.setItem('rater', rater);
  $('start').hidden = true;
  show();
}

$('start').addEventListener('submit', (event) => { event.preventDefault(); begin($('name').value.trim()); });
for (const button of document.querySelectorAll('[data-answer]'))
  button.addEventListener('click', () => {
    answers[button.closest('fieldset').dataset.question] = button.dataset.answer;
    mark();
  });
$('next').addEventListener('click', () => vote());
$('skip').addEventListener('click', () => vote($('problem').hidden ? 'cannot be judged' : $('problem').textContent));
$('play').addEventListener('click', () => play(!playing));
$('back').addEventListener('click', () => step(-1));
$('forward').addEventListener('click', () => step(1));
$('again').addEventListener('click', restart);
for (const video of videos()) {
  video.addEventListener('error', () => say(`The video on the ${video.id} cannot be played here.`));
  // The shorter one waits on its last frame; both begin again together.
  video.addEventListener('ended', () => { if (playing && videos().every((one) => one.ended || one.error)) restart(); });
  video.addEventListener('timeupdate', () => {
    const [one, other] = videos();
    if (playing && !one.ended && !other.ended && Math.abs(one.currentTime - other.currentTime) > 0.1)
      other.currentTime = one.currentTime;
  });
}
document.addEventListener('keydown', (event) => {
  if ($('arena').hidden || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === 'INPUT') return;
  const answer = ['left', 'tie', 'right'];
  const number = '123456'.indexOf(event.key);
  if (event.key.length === 1 && number >= 0) {
    answers[number < 3 ? 'quality' : 'text'] = answer[number % 3];
    mark();
  } else if (event.key === 'Enter') vote();
  else if (event.key === ' ') play(!playing);
  else if (event.key === ',') step(-1);
  else if (event.key === '.') step(1);
  else if (event.key === 'r') restart();
  else return;
  event.preventDefault();
});
$('download').addEventListener('click', () => {
  const text = JSON.stringify({ study: STUDY.id, votes: home.votes() }, null, 1);
  const blob = new Blob([text], { type: 'application/json' });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `votes ${rater}.json`;
  link.click();
});
if (sessionStorage.getItem('rater')) begin(sessionStorage.getItem('rater'));
"""


def arena_page(study: Mapping[str, Any] | None = None) -> str:
    """The page.

    Args:
        study: What a page without a server holds: `id`, `prompts`, `videos` by id (`source` and number of the prompt)
            and `orders` of pairs of ids; None asks the server that sent the page.
    """
    data = "null" if study is None else json.dumps(study, ensure_ascii=True).replace("<", "\\u003c")
    return page("Which is better?", f"<style>{_STYLE}</style>{_BODY}<script>const STUDY = {data};{_SCRIPT}</script>")
