// Asking the server. One place shows the token, notices that there is none, and knows whether the server answers.

import { token } from "./local-storage.js";

/** A request that the server didn't do, and why. */
export class Problem extends Error {
  constructor(status, said) {
    super(said.detail ?? said.title ?? `the server answered ${status}`);
    Object.assign(this, { status, said });
  }
}

/** The server can't be reached. */
export class Unreachable extends Error {}

/** Whether the server answers; `change` is told when that changes. */
export const connection = new (class extends EventTarget {
  ok = true;
  since = 0;
  note(ok) {
    if (ok === this.ok) return;
    Object.assign(this, { ok, since: Date.now() });
    this.dispatchEvent(new Event("change"));
  }
})();

/** Asks the user for a token; set by the page. Resolves once there is another one. */
export const door = { ask: () => Promise.reject(new Problem(401, { detail: "a token is needed" })) };

let skew = 0; // seconds that the server's clock is ahead of this one

/** Return the server's time, in seconds since the epoch. */
export const now = () => Date.now() / 1000 + skew;

/** Take the server's clock from what it said. Its Date header has whole seconds only. */
export function setClock(seconds) {
  skew = seconds - Date.now() / 1000;
}

/** Send a request; wait for a token if one is needed. Raises Problem and Unreachable. */
export async function send(method, path, { body, query, headers, signal } = {}) {
  for (;;) {
    const shown = token.get();
    const answer = await fetched(method, path, { body, query, headers, signal, shown });
    if (answer.status !== 401) return answer;
    await door.ask(shown !== "");
  }
}

async function fetched(method, path, { body, query, headers = {}, signal, shown }) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query ?? {}))
    if (value !== undefined && value !== "") url.searchParams.set(name, value);
  const sent = { ...headers };
  if (shown) sent.Authorization = `Bearer ${shown}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const asked = { method, headers: sent, signal, cache: "no-store", credentials: "omit" };
  if (body !== undefined) asked.body = JSON.stringify(body);
  try {
    const answer = await fetch(url, asked);
    connection.note(true);
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    connection.note(false);
    throw new Unreachable("the server can't be reached");
  }
}

/** Send a request and return what it is told. */
export async function ask(method, path, given = {}) {
  const answer = await send(method, path, given);
  let said;
  try {
    said = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (answer.ok) throw new Unreachable("the answer broke off");
    said = {};
  }
  if (!answer.ok) throw new Problem(answer.status, said);
  return said;
}

const id = encodeURIComponent;

export const listRuns = (query, signal) => ask("GET", "v1/runs", { query, signal });
export const getRun = (run, signal) => ask("GET", `v1/runs/${id(run)}`, { signal });
export const getLife = (run, signal) => ask("GET", `v1/runs/${id(run)}/live`, { signal });
export const cancelRun = (run, how) => ask("POST", `v1/runs/${id(run)}/cancel`, { body: how });
export const cancelRuns = (how, signal) => ask("POST", "v1/runs/cancel", { body: how, signal });
export const startRun = (what) => ask("POST", "v1/runs", { body: what });
export const continueRun = (run) => ask("POST", `v1/runs/${id(run)}/continue`, { body: {} });

/** Return what is served: [{kind, id, name, description, input_schema}]. */
export async function components(signal) {
  const [workflows, agents] = await Promise.all([
    ask("GET", "workflows", { signal }),
    ask("GET", "agents", { signal }),
  ]);
  return [
    ...workflows.map((one) => ({ kind: "workflow", ...one })),
    ...agents.map((one) => ({ kind: "agent", ...one })),
  ];
}
