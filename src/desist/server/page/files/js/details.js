// One piece of work in full: when, how long, what it was given, what came of it.

import { h } from "./dom.js";
import { kindIcon, statusIcon } from "./icons.js";
import { at, count, span as spanWords, statusWord, whole } from "./format.js";

/** Return what is known of a span. `now` is the server's time; `stop(span)` stops a run that lives, if given. */
export function details(span, now, stop) {
  const { tool, used, content, error, reason } = span.said;
  const facts = [
    ["Began", span.start ? at(span.start) : ""],
    [span.end ? "Took" : "Runs for", spanWords((span.end ?? now) - span.start)],
  ];
  if (span.runId) facts.push(["Run", h("code", {}, span.runId)]);
  if (used) facts.push(...usage(used));
  if (reason) facts.push(["Why", reason]);
  const lives = span.runId && span.end === null && span.parent;
  return h(
    "div",
    { class: "details" },
    h(
      "h3",
      {},
      kindIcon(span.kind),
      span.name,
      h("span", { class: "badge", "data-status": span.status }, statusIcon(span.status), statusWord(span.status)),
      lives && stop
        ? h("button", { type: "button", class: "small", onclick: () => stop(span) }, "Stop only this…")
        : null,
    ),
    h(
      "dl",
      {},
      facts
        .filter(([, value]) => value !== "")
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    tool ? part("Arguments", tool.tool_args ?? {}, span.name) : null,
    tool?.result !== undefined ? part(tool.tool_call_error ? "Error" : "Result", tool.result, span.name) : null,
    content !== undefined && content !== null && content !== "" ? part("Output", content, span.name) : null,
    error ? part("Error", error, span.name) : null,
  );
}

function part(title, value, of) {
  return h(
    "div",
    { class: "part" },
    h("h4", {}, title),
    h("pre", { tabindex: "0", role: "group", "aria-label": `${title} of ${of}` }, whole(value)),
  );
}

function usage(used) {
  const facts = [
    ["Tokens in", count(used.input_tokens)],
    ["Tokens out", count(used.output_tokens)],
  ];
  if (used.time_to_first_token !== undefined) facts.push(["To the first token", spanWords(used.time_to_first_token)]);
  return facts;
}

/** Return the calls of tools, one after the other. */
export function toolList(tools, now) {
  if (!tools.length) return h("p", { class: "empty" }, "No tool was called.");
  return h(
    "ol",
    { class: "calls" },
    tools.map((span) => h("li", {}, details(span, now))),
  );
}
