// What keys mean, as the help says.

const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "tie", "=": "tie", ArrowDown: "skip", " ": "skip",
  Enter: "send", u: "undo", r: "replay", "+": "faster", "-": "slower", "−": "slower", p: "pause", h: "help",
};
const PLACES = { KeyU: "undo", KeyR: "replay", KeyP: "pause", KeyH: "help" }; // on keyboards that write other letters

/** Name of what a key asks for, or undefined. */
export function meaning(event) {
  const selects = event.shiftKey && event.key.startsWith("Arrow");
  if (event.ctrlKey || event.altKey || event.metaKey || selects) return undefined;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (Object.hasOwn(KEYS, key)) return KEYS[key];
  return key.length === 1 && key > "\u007f" ? PLACES[event.code] : undefined;
}
