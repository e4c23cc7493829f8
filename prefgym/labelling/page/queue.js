// An annotator's own queue: the next pairs are at hand before they are wanted, and no answer is lost or sent twice.

import { Track } from "./clip.js";

const PREFETCH = 3; // pairs at hand, the one shown among them
const KEEP = "prefgym.answer."; // in localStorage, one entry an answer, so that two tabs do not overwrite each other's
const LEFT = "prefgym.left"; // in localStorage: written by a page that goes, so that other tabs hear of it
const BACK = 5; // seconds in which a reloaded page is back, and gets what it showed
const SETTLE = 1000; // milliseconds after which the server has heard what a page said as it went
const POLL = 700; // milliseconds between two looks for a pair, while there is none
const RENEW = 15000; // milliseconds after which leases are renewed: often enough for the 45 seconds that they last
const SLOW = 10000; // milliseconds after which a request is given up, and made again

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Sends a request; {status, data}, with status 0 if no answer came. */
export async function call(path, fields, method = "POST") {
  const query = method === "GET" && fields ? `?${new URLSearchParams(fields)}` : "";
  const body = method === "GET" ? undefined : JSON.stringify(fields);
  const headers = body ? { "Content-Type": "application/json" } : {};
  try {
    const signal = AbortSignal.timeout(SLOW);
    const response = await fetch(`api/${path}${query}`, { method, body, headers, signal, keepalive: Boolean(body) });
    return { status: response.status, data: await response.json(), after: response.headers.get("Retry-After") };
  } catch {
    return { status: 0, data: { error: "The server cannot be reached." }, after: null };
  }
}

/** Sends what nobody waits for, also while the page goes. */
function mention(path, fields) {
  navigator.sendBeacon(`api/${path}`, new Blob([JSON.stringify(fields)], { type: "application/json" }));
}

export class Queue {
  /**
   * @param annotator name of who answers.
   * @param on changed(suddenly) when another pair is to be shown, suddenly if the person did nothing to that end;
   *   tell(words) once, trouble(words) while something is wrong, sending(number) when so many answers are on their way.
   */
  constructor(annotator, on) {
    Object.assign(this, { annotator, on, tickets: [], undoing: false, asked: false, store: null, closed: false });
    this.answered = new Set(saved().map((answer) => answer.token));
    this.unsent = new Set();
    this.jobs = Promise.resolve();
    this.renew();
    this.renewal = setInterval(() => this.renew(), RENEW);
    this.ended = new AbortController();
    addEventListener("storage", (event) => this.hear(event), { signal: this.ended.signal });
  }

  /** The pair to show, or undefined. */
  get shown() { return this.tickets[0]; }

  /** Goes on with the next pair at once; what is said, a choice or ranks, is sent behind it. */
  answer(said, seconds) {
    const ticket = this.tickets.shift();
    const answer = { token: ticket.token, ...said, annotator: this.annotator, seconds, store: this.store };
    keep(answer);
    this.answered.add(ticket.token);
    this.send(answer);
    this.on.changed();
  }

  undo() {
    if (this.undoing) return;
    this.undoing = true;
    this.do(async () => {
      const { status, data } = await call("undo", { annotator: this.annotator, rankings: true }); // never twice: it might undo two
      if (status !== 200) this.on.tell(status ? data.error : "The undo may not have arrived: look before you go on.");
      else if (!data.ticket) this.on.tell("There is nothing left to undo.");
      else this.tickets = [tracks(data.ticket), ...this.tickets.filter((one) => one.token !== data.ticket.token)];
      this.undoing = false;
      this.on.changed();
      if (status !== 200) await this.refill();
    });
  }

  /** Keeps what is shown this person's: now and then, and when the page is looked at again. */
  renew() { this.do(() => this.refill()); }

  /** Sends what is left, gives back what is not answered, and ends. */
  async close() {
    clearInterval(this.renewal);
    this.ended.abort();
    this.closed = true;
    await this.jobs;
    this.leave();
  }

  /** Says goodbye; the page may go, or come back at once. */
  leave() {
    for (const { store, ...answer } of this.unsent) mention(way(answer), answer);
    mention("release", { annotator: this.annotator, after: BACK });
    note(LEFT, Date.now());
  }

  /** What another tab of this browser does, perhaps under the same name: what is answered there is not asked here. */
  hear({ key, newValue }) {
    if (key === LEFT) setTimeout(() => this.renew(), SETTLE);
    else if (key?.startsWith(KEEP) && newValue) this.drop(key.slice(KEEP.length));
    else if (key?.startsWith(KEEP) && this.tickets.length < PREFETCH) this.renew();
  }

  drop(token) {
    const before = this.shown?.token;
    this.answered.add(token);
    this.tickets = this.tickets.filter((ticket) => ticket.token !== token);
    if (before === token) this.lose();
  }

  /** The pair that was looked at is gone, and not by an answer given here. */
  lose() {
    this.on.tell("That one was answered elsewhere meanwhile: here is another.");
    this.on.changed(true);
  }

  send(answer) {
    this.unsent.add(answer);
    this.on.sending(this.unsent.size);
    this.do(async () => {
      await this.deliver(answer);
      forget(answer);
      this.unsent.delete(answer);
      this.on.sending(this.unsent.size);
      if (!this.unsent.size) await this.refill();
    });
  }

  /** Sends until the server has taken the answer, or said that it never will. */
  async deliver({ store, ...answer }) {
    for (let wait = 500; ; wait = Math.min(2 * wait, 5000)) {
      const { status, data, after } = await call(way(answer), answer);
      const never = status >= 400 && status < 500 && ![403, 408, 429].includes(status);
      if (never) this.on.tell(data.error);
      if (status === 200 || never) break;
      if (status !== 429) this.on.trouble(`${data.error} Your answers are kept here until it works again.`);
      await pause(after ? 1000 * after : wait);
    }
    this.on.trouble("");
  }

  async refill() {
    if (this.closed) return;
    const here = this.tickets.slice(0, PREFETCH); // more, after undoing, than are asked for
    const known = here.map(({ token }) => token).join(","); // their clips, which may be large, need not come again
    const wanted = { annotator: this.annotator, count: PREFETCH, rankings: 1, known };
    const { status, data } = await call("tickets", wanted, "GET");
    this.on.trouble(status === 200 || status === 429 ? "" : data.error);
    if (status === 200) this.take(data);
    this.asked ||= status === 200;
    if (!this.tickets.length) this.again ||= setTimeout(() => this.look(), POLL);
  }

  look() {
    this.again = null;
    this.renew();
  }

  take({ store, tickets }) {
    if (this.store === null) saved().filter((answer) => answer.store === store).forEach((answer) => this.send(answer));
    this.store = store;
    const known = new Map(this.tickets.map((ticket) => [ticket.token, ticket]));
    const fresh = tickets.filter(({ token }) => !this.answered.has(token));
    const before = this.shown?.token;
    this.tickets = fresh.map((ticket) => known.get(ticket.token) || tracks(ticket));
    const at = this.tickets.findIndex(({ token }) => token === before);
    if (at > 0) this.tickets.unshift(...this.tickets.splice(at, 1)); // what is looked at stays
    if (before && this.shown?.token !== before) this.lose();
    else if (this.shown?.token !== before || !this.asked) { this.asked = true; this.on.changed(); }
  }

  /** One after another, in order. */
  do(job) { this.jobs = this.jobs.then(job).catch((error) => { console.error(error); }); }
}

function tracks({ token, left, right, responses }) {
  return { token, ranking: Boolean(responses), sides: (responses || [left, right]).map((clip) => new Track(clip)) };
}

function way(answer) { return Object.hasOwn(answer, "ranks") ? "rankings" : "answers"; }

// Answers on their way, kept where a reload does not lose them; where nothing can be kept, they live as long as the page.

function keep(answer) { note(KEEP + answer.token, JSON.stringify(answer)); }

function note(key, value) {
  try { localStorage.setItem(key, value); } catch { /* an answer is kept in memory by its job */ }
}

function forget({ token }) {
  try { localStorage.removeItem(KEEP + token); } catch { /* was not kept */ }
}

function saved() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(KEEP)).map((key) => JSON.parse(localStorage[key]));
  } catch { return []; }
}
