// The page: shows the pair that the queue has first, and does what keys, clicks and taps say.

import { Track, forgetTheme } from "./clip.js";
import { meaning } from "./keys.js";
import { recall, remember } from "./memory.js";
import { showFacts, showLive } from "./panels.js";
import { Player } from "./player.js";
import { Queue, call } from "./queue.js";
import { alike, press, ranks, showRanking, stepBack } from "./ranking.js";
import { onChoice, showTexts } from "./text.js";
import { reasons, reworded, speakOfTexts } from "./waiting.js";

const SPEEDS = [0.25, 0.5, 1, 2];
const CHOICES = ["left", "right", "tie", "skip"];
const DOUBLE = 250; // milliseconds within which a second click is half of a double click, and answers nothing
const SUDDEN = 700; // milliseconds for which a pair that replaced another unasked takes no answer: it was not meant
const NOTICE = 6000; // milliseconds that a notice is seen
const LOOK = 2000; // milliseconds between two looks at the statistics and at training

const at = (id) => document.getElementById(id);
const clips = [at("left"), at("right")], canvases = clips.map((clip) => clip.querySelector("canvas"));
const responses = [at("left-text"), at("right-text")];

let queue = null;
let pair = null; // {token, ranking, player, since, seen, ready}: what is shown
let live = null; // {updated, player}: what the robot does now
let facts = null, doing = "", noticed = 0, reachable = true, looking = false;
let paused = null; // whether training is; null where there is none
let pausing = 0, pauses = Promise.resolve(), asks = 0; // requests on their way, in order, and those that have arrived
let speed = Number(recall("speed")) || 0.5;

// The pair.

function show(suddenly) {
  if (!queue.shown) { pair = null; }
  else if (pair?.token !== queue.shown.token) {
    const { token, sides, ranking } = queue.shown;
    const since = performance.now(), ready = suddenly ? since + SUDDEN : 0;
    pair = { token, ranking, player: new Player(...sides), since, seen: 0, ready };
    showSides(sides, ranking);
    Promise.all(sides.map((side) => side.ready)).then(() => { if (pair?.token === token) begun(sides); });
  }
  document.body.dataset.pair = pair?.token ?? "";
  document.body.classList.toggle("empty", !pair);
  if (!pair) showSides(null);
  at("waiting").hidden = Boolean(pair);
  sayWhy();
  if (pair) pair.player.paint(...canvases); // at once: the next picture may be late
}

function showSides(sides, ranking = false) {
  const texts = showTexts(sides || []);
  showRanking(ranking ? sides : null);
  if (!sides) return;
  speakOfTexts(texts);
  if (texts && at("stage").getBoundingClientRect().top < 0) at("stage").scrollIntoView(); // the next is read from its beginning
  const question = ranking ? "Put the responses in order" : reworded("Which clip is better?");
  at("question").textContent = question;
  document.title = `${question} · prefgym`;
  if (!ranking) showWords(sides);
}

function showWords(sides) {
  sides.forEach((side, index) => { clips[index].querySelector(".words").textContent = side.drawn ? "" : side.words; });
}

/** The pair can be looked at, or turns out not to be drawn. */
function begun(sides) {
  Object.assign(pair, { since: performance.now(), seen: 0 }); // a wait for pictures is not time taken
  if (!pair.ranking) showWords(sides);
}

function answer(choice, event) {
  if (!pair || queue.undoing || performance.now() < pair.ready || pair.player.waits) return; // nobody has seen it yet
  if (!pair.player.drawn && choice !== "skip") return tell("These cannot be compared here, as they cannot be drawn: ↓ leaves them out.");
  if (pair.ranking) {
    if (choice === "tie" || choice === "skip") give({ ranks: choice === "tie" ? alike() : null }, event);
    return;
  }
  flash(choice);
  give({ choice }, event);
}

function sendRanking(event) {
  if (!pair?.ranking || queue.undoing || performance.now() < pair.ready) return;
  if (ranks()) give({ ranks: ranks() }, event);
  else tell("Some have no place yet: press their numbers, from the best to the worst.");
}

function give(said, event) {
  const seconds = (pair.seen + performance.now() - pair.since) / 1000;
  queue.answer(said, Math.round(1000 * Math.min(seconds, 86400)) / 1000);
  if (pair) requestAnimationFrame(() => setTimeout(() => measure(event.timeStamp))); // once it is on the screen
}

function measure(start) {
  if (performance.getEntriesByName("next pair").length > 500) performance.clearMeasures("next pair");
  performance.measure("next pair", { start });
}

function flash(choice) {
  const both = pair.player.tracks[0].kind === "text" ? responses : clips;
  const chosen = { left: [both[0]], right: [both[1]], tie: both, skip: [] }[choice];
  for (const clip of chosen) {
    clip.classList.remove("chosen");
    void clip.offsetWidth; // begins the animation anew
    clip.classList.add("chosen");
  }
}

const ACTIONS = {
  undo: () => queue?.undo(),
  send: sendRanking,
  back: stepBack,
  replay: () => pair?.player.restart(),
  faster: () => setSpeed(SPEEDS.find((one) => one > speed)),
  slower: () => setSpeed(SPEEDS.findLast((one) => one < speed)),
  pause: togglePause,
  help: () => { if (at("help").open) at("help").close(); else at("help").showModal(); },
};

function act(name, event) {
  if (CHOICES.includes(name)) answer(name, event);
  else ACTIONS[name](event);
}

function setSpeed(wanted) {
  speed = wanted || speed;
  remember("speed", speed);
  at("speed").textContent = `${speed}×`;
}

// Training's pause.

function togglePause() {
  if (!queue) return;
  if (paused === null) return tell("There is no training here to pause.");
  const wanted = !paused;
  pausing += 1;
  showPaused(wanted);
  pauses = pauses.then(() => askPause(wanted));
}

async function askPause(wanted) {
  const { status, data } = await call("pause", { annotator: queue.annotator, paused: wanted });
  if (status !== 200) tell(data.error); // the next look shows what is so
  pausing -= 1;
  asks += 1;
}

function showPaused(now) {
  paused = now;
  at("paused").hidden = !paused;
  at("pause").hidden = paused === null;
  at("pause").setAttribute("aria-label", paused ? "Let training go on" : "Pause training");
  at("pause").querySelector("span").textContent = paused ? "go on" : "pause";
  sayWhy();
}

// Keys, clicks, taps.

document.addEventListener("keydown", (event) => {
  const covered = at("name").open || at("help").open || event.ctrlKey || event.altKey || event.metaKey;
  if (!covered && press(event)) return event.preventDefault();
  const name = at("name").open ? undefined : meaning(event);
  const pressing = [" ", "Enter"].includes(event.key) && event.target.closest?.("button"); // they press one that has the focus
  if (!name || pressing || (at("help").open && name !== "help")) return;
  event.preventDefault();
  if (!event.repeat) act(name, event);
});

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("mousedown", (event) => event.preventDefault()); // leaves the focus, so that keys keep their sense
  button.addEventListener("click", (event) => {
    const answers = CHOICES.includes(button.dataset.do);
    if (answers && event.detail > 0 && pair && performance.now() - pair.since < DOUBLE) return;
    act(button.dataset.do, event);
  });
}
responses.forEach((response, index) => onChoice(response, (event) => {
  if (pair && performance.now() - pair.since >= DOUBLE) act(CHOICES[index], event);
}));
at("help-close").addEventListener("click", () => at("help").close());

// Words.

function tell(words) {
  noticed = performance.now();
  say(words, false);
}

function trouble(words) {
  if (words) say(words, true);
  else if (!reachable) say("", false);
  reachable = !words;
}

function say(words, bad) {
  at("notice").textContent = words;
  at("notice").hidden = !words;
  at("notice").classList.toggle("bad", bad);
}

function sending(unsent) { document.body.dataset.unsent = unsent; }

function sayWhy() {
  if (pair) return;
  const [what, why] = reasons({ asked: queue?.asked, facts, paused, doing });
  at("waiting-what").textContent = what;
  at("waiting-why").textContent = why;
}

// Who answers.

function begin(name) {
  queue?.close();
  remember("annotator", name);
  at("who").textContent = name;
  at("who").hidden = false;
  at("who").setAttribute("aria-label", `You are ${name}: change the name`);
  pair = null;
  queue = new Queue(name, { changed: show, tell, trouble, sending });
  show();
}

function askName() {
  at("name-field").value = recall("annotator") || "";
  at("name").showModal();
}

at("name").addEventListener("cancel", (event) => { if (!queue) event.preventDefault(); });
at("name").addEventListener("close", () => { if (!queue) askName(); });
at("name").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("name-field").value.trim();
  if (!name) return;
  if (name !== queue?.annotator) begin(name);
  at("name").close();
  document.activeElement?.blur();
});
at("who").addEventListener("click", askName);

// What goes on.

let last = performance.now();

function tick(now) {
  const passed = Math.min(0.2, (now - last) / 1000);
  last = now;
  if (pair) {
    pair.player.advance(passed, speed);
    pair.player.paint(...canvases);
  }
  if (live?.player) {
    live.player.advance(passed, 1);
    live.player.paint(pair ? at("live") : at("practice"), at("live"));
  }
  if (reachable && !at("notice").hidden && now - noticed > NOTICE) say("", false);
  requestAnimationFrame(tick);
}

async function look() {
  if (document.hidden || looking) return;
  looking = true;
  const before = asks;
  const [statistics, moment] = await Promise.all([call("dashboard", null, "GET"), call("live", null, "GET")]);
  looking = false;
  if (statistics.status === 200) showFacts(facts = statistics.data, queue?.annotator);
  if (moment.status === 200 && moment.data.live) see(moment.data.live);
  if (moment.status === 200 && !pausing && before === asks) showPaused(moment.data.paused); // else it may be outdated
  sayWhy();
}

function see(now) {
  doing = now.state;
  if (now.updated === live?.updated) return;
  live = { updated: now.updated, player: now.clip ? new Player(new Track(now.clip)) : null };
  showLive(now);
  at("now").classList.toggle("seen", Boolean(live.player));
  at("waiting").classList.toggle("seen", Boolean(live.player));
}

document.addEventListener("visibilitychange", () => { // time away is not time taken
  if (!document.hidden) queue?.renew();
  if (!pair) return;
  if (document.hidden) pair.seen += performance.now() - pair.since;
  pair.since = performance.now();
});
addEventListener("pagehide", () => queue?.leave());
addEventListener("pageshow", (event) => { if (event.persisted) queue?.renew(); }); // back from the browser's cache
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forgetTheme);

if (location.search) history.replaceState(null, "", location.pathname); // the token is a cookie now
setSpeed(speed);
if (recall("annotator")) begin(recall("annotator"));
else askName();
look();
setInterval(look, LOOK);
requestAnimationFrame(tick);
