// How things are said: times, numbers, statuses, why a run was stopped.

export const STATUS_WORDS = {
  PENDING: "Waiting",
  RUNNING: "Running",
  PAUSED: "Paused",
  CANCELLING: "Stopping",
  CANCELLED: "Cancelled",
  COMPLETED: "Completed",
  ERROR: "Failed",
  REGENERATED: "Replaced",
  KEPT: "Taken over",
  ABANDONED: "Abandoned",
};
const FINAL = new Set(["CANCELLED", "COMPLETED", "ERROR", "REGENERATED"]);
const SOURCES = {
  user: "Stopped",
  parent: "The run above it ended",
  child: "A part of it was stopped",
  sibling: "A branch beside it ended",
  deadline: "Its time was over",
  stall: "The model fell silent",
  budget: "Its budget was spent",
  consumer_closed: "Its reader left",
  client_disconnected: "Its client was lost",
  interrupt: "Ctrl-C",
  shutdown: "The server ended",
  lease_lost: "Another process took it",
};

export const isFinal = (status) => FINAL.has(status);
/** Return the words for the end of a text that isn't its own: it was stopped, or its model left off early. */
export function cutWords(status, reason) {
  if (status === "CANCELLED") return "stopped here";
  return reason && !["stop", "tool_calls"].includes(reason) ? `ended early: ${reason}` : "";
}

export const statusWord = (status) => STATUS_WORDS[status] ?? status;
export const sourceWords = (source) => SOURCES[source] ?? source;

const number = new Intl.NumberFormat("en");
const clockWords = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayWords = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});

export const count = (value) => number.format(value ?? 0);

/** Return "1 run", "2 runs". */
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

/** Return a duration in seconds as a person says it: 4 ms, 1.2 s, 3:07, 2 h 5 min. */
export function span(seconds) {
  if (!(seconds >= 0)) return "";
  if (seconds < 0.00095) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 0.995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  return clock(seconds);
}

/** Return a running time as 0:14, 3:07, 2 h 5 min. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole >= 86400) return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Return how long after something another thing was: +0.4 ms, +54 ms. */
export function after(seconds) {
  const milliseconds = Math.max(0, seconds * 1000);
  return milliseconds < 10 ? `+${milliseconds.toFixed(1)} ms` : `+${span(seconds)}`;
}

/** Return a time of day, with the day if it isn't today. */
export function at(seconds) {
  const when = new Date(seconds * 1000);
  return when.toDateString() === new Date().toDateString() ? clockWords.format(when) : dayWords.format(when);
}

/** Return an id so that it can be told from others at a glance. */
export const short = (id) => (id && id.length > 12 ? `${id.slice(0, 8)}…` : (id ?? ""));

/** Return one line of a value, for a row. */
export function brief(value, most = 160) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const flat = text.length > 4 * most ? text.slice(0, 4 * most) : text;
  const one = flat.replace(/\s+/g, " ").trim();
  return one.length > most ? `${one.slice(0, most - 1)}…` : one;
}

/** Return a value as text to be read: JSON inside of text too. */
export function whole(value) {
  if (typeof value !== "string") return JSON.stringify(value, null, 2) ?? "";
  if (/^\s*[[{]/.test(value)) {
    try {
      return JSON.stringify(JSON.parse(value), null, 2);
    } catch {
      // it only looked like JSON
    }
  }
  return value;
}

/** Return what some runs wait for, in words: not that they wait for each other, and files without their folders. */
export function waits(runs) {
  const words = runs.flatMap((run) => run.blocked_in).filter((one) => !/ \(run [\w-]+\)$/.test(one));
  return [...new Set(words.map((one) => one.replace(/ \((?:[^()]*\/)?([^()/]+:\d+)\)/, " ($1)")))];
}

/** Return the arguments of a call in short: q="dragon", n=3. */
export function args(values) {
  return Object.entries(values ?? {})
    .map(([name, value]) => `${name}=${brief(JSON.stringify(value), 40)}`)
    .join(", ");
}
