// How a stop goes, in words and times: requested, told, closed, tools, cleanup, settled; and what could not be stopped.

import { h } from "./dom.js";
import { statusIcon } from "./icons.js";
import { after, at, clock, many, sourceWords, span, waits } from "./format.js";

/**
 * Return the lines of the story: [{ key, time, words, more, state }].
 *
 * `record` is the run's cancel record as far as it is; `life` what lives of it; `tools` the spans of tool calls.
 */
export function storyOf({ record, life, tools, settled, now }) {
  const begun = record.requested_at;
  const since = (time) => (time ? after(time - begun) : "");
  const lines = [
    {
      key: "requested",
      time: at(begun),
      words: requested(record),
      more: record.reason ? `“${record.reason}”` : "",
      state: "done",
    },
  ];
  if (record.delivered_at)
    lines.push({ key: "told", time: since(record.delivered_at), words: "All its work was told", state: "done" });
  lines.push(...closed(record, settled), ...toolLines(tools, begun, settled), ...cleanup(record));
  if (settled)
    lines.push({
      key: "settled",
      time: since(record.settled_at),
      words: `Settled after ${span(record.settled_at - begun)}`,
      state: "done",
    });
  else
    lines.push({
      key: "settled",
      time: clock(now - begun),
      words: "Waiting for what still runs",
      more: grace(life),
      state: "now",
    });
  for (const left of record.abandoned ?? []) lines.push(abandoned(left, life, now));
  return lines;
}

function requested(record) {
  const by = record.by && record.by !== "desist" ? ` by ${record.by}` : "";
  return record.source === "user" ? `Requested${by}` : `${sourceWords(record.source)}${by}`;
}

function closed(record, settled) {
  const number = record.upstream_closed ?? 0;
  const other = Math.max(0, (record.connections_closed ?? 0) - number);
  if (!number && !other && !settled) return [];
  const words = number
    ? `${many(number, "connection")} to ${number === 1 ? "a model" : "models"} closed`
    : "No model connection was open";
  const more = other ? `${many(other, "connection")} of tools closed` : "";
  return [{ key: "closed", time: "", words, more, state: "done" }];
}

function toolLines(tools, begun, settled) {
  const meant = tools.filter(
    (one) =>
      one.start <= begun && (one.end === null || one.end >= begun || isStopped(one)) && one.status !== "COMPLETED",
  );
  if (!meant.length) return [];
  const left = meant.filter((one) => one.status === "ABANDONED" || one.status === "RUNNING");
  const words = `Tools stopped: ${meant.length - left.length} of ${meant.length}`;
  return [
    {
      key: "tools",
      time: "",
      words,
      more: left.length ? `– not ${left.map((one) => one.name).join(", ")}` : "",
      state: left.length ? (settled ? "bad" : "now") : "done",
    },
  ];
}

const isStopped = (one) => one.status === "CANCELLED" || one.status === "ABANDONED";

function cleanup(record) {
  const kinds = { on_cancel: "Cleanup", compensate: "Undoing" };
  const ends = { running: "runs", done: "done", failed: "failed", stopped: "cut short" };
  return (record.cleanup ?? []).map((one, index) => ({
    key: `cleanup ${index}`,
    time: "",
    words: `${kinds[one.kind] ?? one.kind} “${one.name}”: ${ends[one.status] ?? one.status}`,
    more: [one.seconds === undefined ? "" : `in ${span(one.seconds)}`, one.error ?? ""].filter(Boolean).join(" · "),
    state: { done: "done", running: "now" }[one.status] ?? "bad",
  }));
}

function grace(life) {
  const left = Math.max(0, ...(life?.runs ?? []).map((run) => run.grace_left ?? 0));
  return [left > 0.05 ? `${span(left)} of its grace are left` : "its grace is over", ...waits(life?.runs ?? [])].join(
    " · ",
  );
}

function abandoned(left, life, now) {
  const alive = (life?.left ?? []).find(
    (one) => one.name === left.name && (one.since === null || Math.abs(one.since - left.since) < 0.01),
  );
  const where = (alive ? alive.line || alive.where : lineOf(left.blocked_in)) || left.waits_for || "";
  const of = left.call && left.call !== left.name ? ` of “${left.call}”` : "";
  const words = `Abandoned: ${left.kind} “${left.name}”${of}${where ? " in " : ""}`;
  const more = life === null ? "" : alive ? `still alive ${clock(now - left.since)}` : "has ended meanwhile";
  return { key: `left ${left.name} ${left.since}`, time: "", words, code: where, more, state: alive ? "bad" : "past" };
}

function lineOf(stack) {
  const last = stack?.trimEnd().split("\n").pop().trim() ?? "";
  return last.startsWith("File ") ? "" : last;
}

/** Shows the story. Call `show(lines)`; elements stay while their line does. */
class Story extends HTMLElement {
  connectedCallback() {
    this.list ??= this.appendChild(h("ol", { class: "story" }));
    this.items ??= new Map();
  }

  show(lines) {
    for (const line of lines) this.line(line);
    const wanted = lines.map((line) => this.items.get(line.key).element);
    for (const [key, item] of this.items) if (!wanted.includes(item.element)) this.items.delete(key);
    if (wanted.some((node, index) => this.list.children[index] !== node) || this.list.children.length !== wanted.length)
      this.list.replaceChildren(...wanted);
  }

  line({ key, time, words, code, more, state }) {
    let item = this.items.get(key);
    if (!item) this.items.set(key, (item = { element: h("li", {}) }));
    const said = JSON.stringify([time, words, code, more, state]);
    if (item.said === said) return;
    item.said = said;
    item.element.dataset.state = state;
    item.element.replaceChildren(
      h("span", { class: "when" }, time),
      sign(state),
      h(
        "span",
        { class: "what" },
        words,
        code ? h("code", {}, code) : null,
        more ? h("span", { class: "dim" }, code ? `, ${more}` : ` ${more}`) : null,
      ),
    );
  }
}

const sign = (state) =>
  state === "bad" || state === "past"
    ? statusIcon("ABANDONED")
    : state === "now"
      ? statusIcon("CANCELLING")
      : h("span", { class: "bead" });

customElements.define("desist-story", Story);
