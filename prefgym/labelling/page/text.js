// Texts: two responses beside each other, under the prompt that both answer. They are set as text, never as HTML.

const PART = 0.85; // of what is seen of a text, by which PageDown goes on
const SLIP = 6; // pixels that a click may move: more is a selection

const at = (id) => document.getElementById(id);
const sides = [at("left-text"), at("right-text")];

/** A response, as `Track` is a clip: it stands still. */
export class Text {
  ready = Promise.resolve();
  drawn = true;
  waits = false;
  seconds = 0;
  span = 0;
  words = "";

  constructor({ prompt, text }) { Object.assign(this, { kind: "text", prompt, text }); }

  paint() { /* a browser writes it */ }
}

/** Shows two responses, each from its beginning; says whether they are texts. */
export function showTexts(tracks) {
  const reading = tracks.length > 0 && tracks.every((track) => track.kind === "text");
  document.body.classList.toggle("texts", reading);
  if (!reading) {
    showPrompt("");
    return false;
  }
  const shared = tracks.every((track) => track.prompt === tracks[0].prompt);
  showPrompt(shared ? tracks[0].prompt : "");
  sides.forEach((side, index) => write(side, (shared ? "" : `${tracks[index].prompt}\n\n`) + tracks[index].text));
  return true;
}

export function showPrompt(words) {
  at("prompt").hidden = !words;
  write(at("prompt"), words);
}

/** Writes a text into a box that scrolls. */
export function write(box, words) {
  const text = box.querySelector(".text");
  text.textContent = words;
  text.classList.toggle("nothing", !words.trim());
  box.scrollTop = 0;
}

/** Calls back on a click or tap that selects no text. */
export function onChoice(element, chosen) {
  let from = null;
  element.addEventListener("pointerdown", (event) => {
    from = getSelection().isCollapsed ? [event.clientX, event.clientY] : null; // else the click lets go of a selection
  });
  element.addEventListener("click", (event) => {
    const still = from && Math.hypot(event.clientX - from[0], event.clientY - from[1]) <= SLIP;
    if (still && getSelection().isCollapsed) chosen(event);
  });
}

/** Goes on by a part of what is seen in boxes that have more; says whether there was any. */
export function scroll(boxes, direction) {
  const long = [...boxes].filter((box) => box.clientHeight && box.scrollHeight > box.clientHeight + 1);
  long.forEach((box) => { box.scrollTop += direction * PART * box.clientHeight; });
  return long.length > 0;
}

document.addEventListener("keydown", (event) => {
  const direction = { PageDown: 1, PageUp: -1 }[event.key];
  if (!direction || document.querySelector("dialog[open]")) return;
  if (scroll(document.querySelectorAll(".reads"), direction)) event.preventDefault();
});
