"""Script of the raters' page: players in step, keys, and votes that go to the server or to the browser's storage.

`STUDY` is what a page without a server holds, null in one that was served.
"""

SCRIPT = """
const $ = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const offline = STUDY !== null;
const videos = [$('left'), $('right')];
const sideOf = (video) => document.body.classList.contains('stacked')
  ? { left: 'upper', right: 'lower' }[video.id] : video.id;

let rater = '';
let tasks = [];
let task = null;       // what is shown
let answers = {};      // to its questions
let broken = {};       // sides of it that cannot be played, and why
let shownAt = 0;
let sending = false;
let playing = true;
let frame = Infinity;  // seconds of the shortest frame that was seen

// Where votes live: with the server, or in this browser's own storage.
const server = {
  async ask(address, body) {
    const { header, token } = $('app').dataset;
    const headers = { 'Content-Type': 'application/json', [header]: token };
    const answer = await fetch(address, body ? { method: 'POST', headers, body: JSON.stringify(body) } : {});
    if (!answer.ok) throw new Error((await answer.text()) || answer.statusText);
    return answer.json();
  },
  async tasks() { return (await this.ask('/api/tasks?rater=' + encodeURIComponent(rater))).tasks; },
  source: (id) => '/video/' + id,
  send(vote) { return this.ask('/api/vote', vote); },
};

const storage = {
  key: () => `arena ${STUDY.id} ${rater}`,
  pair: ({ left, right }) => [left, right].sort().join(' '),
  votes() { return JSON.parse(localStorage.getItem(this.key()) || '[]'); },
  async tasks() {
    let hash = 0;
    for (const letter of rater) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
    const done = new Set(this.votes().map(this.pair));
    return STUDY.orders[hash % STUDY.orders.length].map(([left, right]) => ({
      left, right, prompt: STUDY.prompts[STUDY.videos[left].prompt], done: done.has(this.pair({ left, right })) }));
  },
  source: (id) => STUDY.videos[id].source,
  async send(vote) {
    const votes = this.votes();
    if (votes.some((other) => this.pair(other) === this.pair(vote))) return { new: false };
    localStorage.setItem(this.key(), JSON.stringify([...votes, vote]));
    return { new: true };
  },
};

const home = offline ? storage : server;

// Players

function play(on) {
  playing = on;
  $('play').firstChild.textContent = on ? 'Pause' : 'Play';
  // Both or none: the first to be ready waits for the other.
  const ready = videos.every((video) => video.readyState >= 3 || video.ended || broken[video.id]);
  const over = videos.every((video) => video.ended || broken[video.id]);
  for (const video of videos) {
    if (on && ready && !broken[video.id] && (over || !video.ended)) video.play().catch(() => {});
    else video.pause();
  }
}

function restart() {
  for (const video of videos) {
    if (broken[video.id]) video.load(); else video.currentTime = 0;
  }
  broken = {};
  tell();
  play(true);
}

function step(by) {
  play(false);
  const at = Math.max(...videos.map((video) => video.currentTime || 0));
  const length = Number.isFinite(frame) ? frame : 1 / 24;
  const next = Math.max(0, Math.floor(at / length + 0.01) + by);
  for (const video of videos) {  // to the middle of a frame, so that rounding does not matter
    if (!broken[video.id]) video.currentTime = Math.min((next + 0.5) * length, video.duration || 0);
  }
}

function clock() {
  const at = Math.max(...videos.map((video) => video.currentTime));
  const length = Math.max(...videos.map((video) => video.duration || 0));
  $('clock').textContent = length ? `${at.toFixed(2)} of ${length.toFixed(2)} s` : '';
}

function measureFrames(video) {
  if (!video.requestVideoFrameCallback) return;
  let last = null;
  const seen = (now, { mediaTime, presentedFrames }) => {
    if (last && presentedFrames === last.presentedFrames + 1 && mediaTime > last.mediaTime + 0.004)
      frame = Math.min(frame, mediaTime - last.mediaTime);
    last = { mediaTime, presentedFrames };
    video.requestVideoFrameCallback(seen);
  };
  video.requestVideoFrameCallback(seen);
}

function layout() {
  // Videos much wider than high would be small beside each other on a phone.
  const narrow = matchMedia('(max-width: 40rem)').matches;
  const wide = videos.some((one) => one.videoWidth > 1.2 * one.videoHeight);
  document.body.classList.toggle('stacked', narrow && wide);
  // Small videos show their pixels, as they are; others are scaled as browsers do.
  for (const one of videos) {
    const scale = Math.min(one.clientWidth / one.videoWidth, one.clientHeight / one.videoHeight);
    one.classList.toggle('pixels', scale >= 3);
  }
}

for (const video of videos) {
  video.addEventListener('loadedmetadata', layout);
  video.addEventListener('canplay', () => { if (playing) play(true); clock(); });
  video.addEventListener('click', () => play(!playing));
  video.addEventListener('seeked', clock);
  video.addEventListener('error', () => {
    const reason = { 1: 'loading was ended', 2: 'the connection failed', 3: 'it is damaged' }[video.error?.code];
    broken[video.id] = reason || 'its file is missing, or of a kind that this browser does not know';
    tell();
    if (playing) play(true);
  });
  // The shorter one waits on its last frame; both begin again together.
  video.addEventListener('ended', () => {
    if (playing && videos.every((one) => one.ended || broken[one.id])) {
      for (const one of videos) one.currentTime = 0;
      play(true);
    }
  });
  video.addEventListener('timeupdate', () => {
    clock();
    const [one, other] = videos;
    if (playing && !one.ended && !other.ended && !one.seeking && !other.seeking &&
        Math.abs(one.currentTime - other.currentTime) > 0.08) other.currentTime = one.currentTime;
  });
  measureFrames(video);
}
addEventListener('resize', layout);

// Answers

function say(text) { $('problem').textContent = text; $('problem').hidden = !text; }

const unplayable = () => videos.filter((video) => broken[video.id]).map((video) =>
  `The ${sideOf(video)} video cannot be played: ${broken[video.id]}.`).join(' ');

function tell() {
  const reason = unplayable();
  say(reason && `${reason} Try again with Restart, or skip this comparison; the reason is kept.`);
  $('skip').textContent = reason ? 'Skip' : 'Cannot be judged';
  mark();
}

const complete = () => answers.quality && answers.text && !Object.keys(broken).length;

function mark() {
  for (const button of all('[data-answer]')) {
    button.setAttribute('aria-pressed', answers[button.closest('fieldset').dataset.question] === button.dataset.answer);
    button.disabled = Object.keys(broken).length > 0;
  }
  $('next').disabled = sending || !complete();
}

function choose(question, answer) {
  if (Object.keys(broken).length) return;
  answers[question] = answer;
  mark();
}

function showSkipping(on) {
  if (on && unplayable()) { vote(unplayable()); return; }
  $('skipping').hidden = !on;
  $('skip').setAttribute('aria-expanded', on);
  $('reason').value = '';
  (on ? $('reason') : $('skip')).focus();
}

async function vote(skipped = '') {
  if (sending || !(skipped || complete())) return;
  sending = true;
  const held = $('arena').contains(document.activeElement);  // asked before the button that has the focus is disabled
  mark();
  const seconds = Math.round((performance.now() - shownAt) / 100) / 10;
  const chosen = skipped ? { quality: '', text: '' } : answers;
  try {
    const told = await home.send({ rater, left: task.left, right: task.right, quality: chosen.quality,
      text: chosen.text, skipped: skipped.slice(0, 200), seconds, time: new Date().toISOString() });
    task.done = true;
    show(held);
    if (!told.new) say('The comparison before this one had been answered already, and the first answer counts.');
  } catch (error) {
    say(`The vote was not kept: ${error.message}. Please try again.`);
  } finally {
    sending = false;
    mark();
  }
}

function show(held = false) {
  const left = tasks.filter((one) => !one.done);
  const done = tasks.length - left.length;
  $('progress').max = tasks.length;
  $('progress').value = done;
  $('count').textContent = `${done} of ${tasks.length} done`;
  $('who').textContent = rater;
  $('all').textContent = `${tasks.length} comparisons`;
  $('arena').hidden = !left.length;
  $('end').hidden = left.length > 0;
  $('give').hidden = !offline;
  task = left[0] || null;
  answers = {};
  broken = {};
  frame = Infinity;
  $('skipping').hidden = true;
  $('skip').setAttribute('aria-expanded', false);
  for (const video of videos) {
    if (task) video.src = home.source(task[video.id]); else video.removeAttribute('src');
    video.load();
  }
  if (!task) return;
  $('prompt').textContent = task.prompt;
  if (held) $('prompt').focus({ preventScroll: true });  // for whoever goes by keyboard or ear
  shownAt = performance.now();
  tell();
  play(true);
}

async function begin(name) {
  rater = name;
  try {
    if (!rater) throw new Error('a name is needed');
    tasks = await home.tasks();
  } catch (error) {
    $('refused').textContent = `This cannot begin: ${error.message}.`;
    $('refused').hidden = false;
    return;
  }
  sessionStorage.setItem('rater', rater);
  $('start').hidden = true;
  show(true);
}

function download() {
  const text = JSON.stringify({ study: STUDY.id, votes: storage.votes() }, null, 1);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  link.download = `votes ${rater}.json`;
  link.click();
}

$('start').addEventListener('submit', (event) => { event.preventDefault(); begin($('name').value.trim()); });
$('skipping').addEventListener('submit', (event) => { event.preventDefault(); vote($('reason').value.trim()); });
const press = { next: () => vote(), skip: () => showSkipping($('skipping').hidden), stay: () => showSkipping(false),
  play: () => play(!playing), back: () => step(-1), forward: () => step(1), again: restart, download };
for (const [id, act] of Object.entries(press)) $(id).addEventListener('click', act);
for (const button of all('[data-answer]')) {
  button.addEventListener('click', () => choose(button.closest('fieldset').dataset.question, button.dataset.answer));
}
for (const button of all('[data-leave]')) {
  button.addEventListener('click', () => { sessionStorage.removeItem('rater'); location.reload(); });
}
// A mouse leaves no focus behind, so that space and enter do not press again what was clicked.
document.addEventListener('click', (event) => {
  if (event.detail > 0) event.target.closest('button')?.blur();
});
document.addEventListener('keydown', (event) => {
  const { key, target } = event;
  if ($('arena').hidden || event.ctrlKey || event.metaKey || event.altKey || target.tagName === 'INPUT') return;
  if ((key === ' ' || key === 'Enter') && target.closest('button, summary')) return;  // they press what has the focus
  const number = key.length === 1 ? '123456'.indexOf(key) : -1;
  const keys = { Enter: press.next, ' ': press.play, ',': press.back, '.': press.forward, r: restart, s: press.skip };
  if (number >= 0) choose(number < 3 ? 'quality' : 'text', ['left', 'tie', 'right'][number % 3]);
  else if (keys[key] && !(event.repeat && key === 'Enter')) keys[key]();
  else return;
  event.preventDefault();
});

if (sessionStorage.getItem('rater')) begin(sessionStorage.getItem('rater'));
"""
