// Following a run: events in batches, each once, however often the connection is lost.

import { Problem, Unreachable, connection, send } from "./api.js";
import { pause } from "./dom.js";

const SLOWEST = 8000; // milliseconds between two attempts, at most
const TURN = 10; // ... that events are taken without a turn for the user

/** Ids of runs that this page has started and that stop when it is left. Of others it is a reader only. */
export const attended = new Set();

/**
 * Follow a run until its end or the signal.
 *
 * `take(events)` is given what was told, in order; `state(name, words)` says how it goes: "live", "reconnecting",
 * "elsewhere" (it can't be followed now), "gone", "ended".
 */
export async function follow(run, { take, state, signal }) {
  const place = { last: -1, retry: 1000, over: false };
  let failures = 0;
  while (!signal.aborted) {
    try {
      const told = await listen(run, place, { take, state, signal, begun: () => (failures = 0) });
      if (place.over || told === "ended") return state("ended");
      state("reconnecting");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status === 404) return state("gone", error.message);
      if (error instanceof Problem && error.status === 410) return state("ended", error.message);
      state(error instanceof Problem ? "elsewhere" : "reconnecting", error.message);
    }
    await pause(Math.min(place.retry * 1.6 ** failures++, SLOWEST), signal);
  }
}

async function listen(run, place, { take, state, signal, begun }) {
  const headers = place.last >= 0 ? { "Last-Event-ID": String(place.last) } : {};
  const present = attended.has(run) ? "?present=true" : "";
  const answer = await send("GET", `v1/runs/${encodeURIComponent(run)}/events${present}`, { headers, signal });
  if (answer.status === 204) return "ended";
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  state("live");
  begun();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const read = frames(place);
  let turn = performance.now();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "broken";
      const events = read(value);
      if (events.length) take(events);
      if (place.over) return "ended";
      if (performance.now() - turn > TURN) {
        await pause(0, signal); // a long run is shown while it comes, and Stop can be pressed
        turn = performance.now();
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    connection.note(false);
    throw new Unreachable("the connection was lost");
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Return a reader of server-sent events: text in, events out. */
export function frames(place) {
  let rest = "";
  return (text) => {
    const found = [];
    const parts = (rest + text).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const event = frame(part, place);
      if (event) found.push(event);
    }
    return found;
  };
}

function frame(part, place) {
  let data = "";
  let index;
  for (const line of part.split("\n")) {
    if (line.startsWith("data: ")) data += line.slice(6);
    else if (line.startsWith("id: ")) index = Number(line.slice(4));
    else if (line.startsWith("retry: ")) place.retry = Number(line.slice(7));
  }
  if (!data || (index !== undefined && index <= place.last)) return null;
  if (index !== undefined) place.last = index;
  const event = JSON.parse(data);
  if (isEnd(event)) place.over = true;
  return event;
}

const ENDS = new Set([
  "WorkflowCompleted",
  "WorkflowCancelled",
  "WorkflowError",
  "RunCompleted",
  "RunCancelled",
  "RunError",
]);

/** Whether an event is the last one of the run that is followed, not of one inside it. */
export const isEnd = (event) => ENDS.has(event.event) && event.event_run_id === undefined;
