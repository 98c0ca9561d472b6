"""Style and elements of the raters' page; `lingen_kit.page` has the style that all pages share."""

STYLE = """
body { max-width: 74rem; padding-bottom: 1.5rem; }
h1 { font-size: 1.05rem; margin: 0; }
[hidden] { display: none !important; }
button { min-height: 2.75rem; cursor: pointer; touch-action: manipulation; white-space: nowrap; }
button:hover:enabled { border-color: var(--accent); }
button:focus-visible, input:focus-visible, summary:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; }
button:disabled { opacity: .45; cursor: default; }
button.main { background: var(--accent); border-color: var(--accent); color: var(--ground); font-weight: 600; }
button.plain { border: 0; background: none; color: var(--accent); padding: 0 .3rem; }
kbd { font: inherit; font-size: .75em; border: 1px solid currentColor; border-radius: .25rem; padding: 0 .35em;
  margin-left: .45em; opacity: .65; }
.row { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
.grow { flex: 1; }
body:has(#start:not([hidden])) { max-width: 34rem; padding-top: 9vh; }
body:has(#start:not([hidden])) h1 { font-size: 1.6rem; }
#start { display: grid; gap: .7rem; margin-top: .7rem; }
#start p { margin: 0; }
#start label { font-weight: 600; margin-top: .5rem; }
#start input, #skipping input { width: 100%; min-height: 2.75rem; background: var(--ground); }
.status { font-size: .88rem; color: var(--muted); gap: 0 1rem; min-height: 2.75rem; }
progress { flex: 1 1 8rem; height: .55rem; appearance: none; border: 0; border-radius: 1rem; overflow: hidden;
  background: var(--line); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent); border-radius: 1rem; }
progress::-moz-progress-bar { background: var(--accent); }
.prompt:focus { outline: 0; }
.prompt { font-size: 1.15rem; line-height: 1.4; margin: 0 0 .7rem; max-height: 9.8rem; overflow: auto;
  text-wrap: pretty; }
.players { display: grid; grid-template-columns: 1fr 1fr; gap: .7rem; }
.players figure { border-radius: .6rem; overflow: hidden; background: var(--card); }
.players video { width: 100%; height: 46vh; object-fit: contain; background: none; border-radius: 0; cursor: pointer; }
.players video.pixels { image-rendering: pixelated; }
.players figcaption { margin: 0; padding: .2rem; text-align: center; font-weight: 600; color: var(--ink); }
.controls { margin: .7rem 0; }
#clock { white-space: nowrap; font-size: .88rem; color: var(--muted); font-variant-numeric: tabular-nums; }
.problem { background: var(--card); border-left: 4px solid var(--bad); border-radius: 0 .5rem .5rem 0;
  padding: .55rem .8rem; }
.questions { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem 2rem; }
fieldset { border: 0; padding: 0; margin: 0; min-width: 0; }
legend { font-weight: 600; padding: 0; margin-bottom: .35rem; }
.answers { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: .5rem; }
.answers button { padding: .35rem .3rem; }
.answers button[aria-pressed="true"] { background: var(--accent); border-color: var(--accent); color: var(--ground);
  font-weight: 600; }
.finish { margin-top: 1rem; }
#next { min-width: 10rem; }
#skipping { background: var(--card); border-radius: .6rem; padding: .8rem; display: grid; gap: .5rem;
  max-width: 34rem; margin-top: .8rem; }
details { margin-top: 1rem; font-size: .92rem; }
details kbd { margin: 0 .1em; }
.stacked .across, body:not(.stacked) .down { display: none; }
@media (hover: none) and (pointer: coarse) { button kbd { display: none; } }
@media (max-width: 40rem) {
  body { padding: .7rem .8rem 1rem; }
  .prompt { font-size: 1.02rem; margin-bottom: .5rem; max-height: 7rem; }
  .players { gap: .4rem; }
  .players video { height: auto; max-height: 40vh; }
  .stacked .players { grid-template-columns: 1fr; }
  .stacked .players video { max-height: 26vh; }
  .controls { margin: .5rem 0; }
  .controls .word, .controls kbd { display: none; }
  #clock { flex: 1; text-align: right; }
  .questions { grid-template-columns: 1fr; gap: .6rem; }
  legend { font-size: .95rem; margin-bottom: .2rem; }
  .finish { margin-top: .7rem; }
  #next { flex: 1; }
}
"""

_SIDES = {
    "left": '<span class="across">Left</span><span class="down">Upper</span>',
    "tie": "Equal",
    "right": '<span class="across">Right</span><span class="down">Lower</span>',
}


def _question(name: str, legend: str, keys: str) -> str:
    buttons = "\n".join(
        f'    <button type="button" data-answer="{answer}">{side}<kbd>{key}</kbd></button>'
        for key, (answer, side) in zip(keys, _SIDES.items(), strict=True)
    )
    return (
        f'  <fieldset data-question="{name}"><legend>{legend}</legend><div class="answers">\n{buttons}</div></fieldset>'
    )


_QUESTIONS = _question("quality", "Which looks better?", "123")
_QUESTIONS += _question("text", "Which shows the text better?", "456")

BODY = f"""
<noscript><p>This page needs JavaScript.</p></noscript>
<form id="start">
  <p>You will see two videos of the same text, again and again. Say which one looks better, and which one shows better
  what the text says. There is no right answer, and nothing here tells which model made which video.</p>
  <p>Stop whenever you like: under the same name you go on where you stopped.</p>
  <label for="name">Your name, or any other that you will use again</label>
  <input id="name" required maxlength="60" autocomplete="name" autocapitalize="off" spellcheck="false">
  <p id="refused" class="problem" role="alert" hidden></p>
  <button class="main">Begin</button>
</form>
<main id="arena" hidden>
  <div class="row status">
    <progress id="progress" max="1" value="0" aria-label="Progress"></progress>
    <span id="count" aria-live="polite"></span>
    <span><span id="who"></span> <button type="button" class="plain" data-leave>Not you?</button></span>
  </div>
  <p class="prompt" id="prompt" dir="auto" tabindex="-1"></p>
  <div class="players">
    <figure><figcaption>{_SIDES["left"]}</figcaption>
      <video id="left" muted playsinline preload="auto"></video></figure>
    <figure><figcaption>{_SIDES["right"]}</figcaption>
      <video id="right" muted playsinline preload="auto"></video></figure>
  </div>
  <div class="row controls">
    <button type="button" id="play"><span>Pause</span><kbd>space</kbd></button>
    <button type="button" id="back" aria-label="One frame back"
      >&#8249;<span class="word"> Frame</span><kbd>,</kbd></button>
    <button type="button" id="forward" aria-label="One frame forward"
      ><span class="word">Frame </span>&#8250;<kbd>.</kbd></button>
    <button type="button" id="again">Restart<kbd>r</kbd></button>
    <span id="clock"></span>
  </div>
  <p id="problem" class="problem" role="alert" hidden></p>
  <div class="questions">
{_QUESTIONS}
  </div>
  <div class="row finish">
    <button type="button" class="main" id="next" disabled>Next<kbd>enter</kbd></button>
    <button type="button" id="skip" aria-expanded="false" aria-controls="skipping">Cannot be judged</button>
  </div>
  <form id="skipping" hidden>
    <label for="reason">Why can these two not be compared?</label>
    <input id="reason" required maxlength="200">
    <div class="row"><button class="main">Skip them</button><button type="button" id="stay">Back to them</button></div>
  </form>
  <details><summary>Keys</summary>
    <p><kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd> which looks better: left or upper, equal, right or lower.
    <kbd>4</kbd> <kbd>5</kbd> <kbd>6</kbd> the same for the text. <kbd>enter</kbd> next.
    <kbd>space</kbd> pause and play. <kbd>,</kbd> and <kbd>.</kbd> one frame back and forward.
    <kbd>r</kbd> from the start. <kbd>s</kbd> cannot be judged.</p></details>
</main>
<section id="end" hidden>
  <h2>Thank you.</h2><p>You have answered everything: <span id="all"></span>.</p>
  <p><button type="button" data-leave>Another rater</button></p>
</section>
<p id="give" hidden><button type="button" id="download">Download your votes</button>
  <span class="muted">and send the file to whom you have this page from.</span></p>
"""
