// The head of a run: what it is, how it stands, what it used, and the buttons that stop it or go on with it.

import { announce, h, say } from "./dom.js";
import { icon, statusIcon } from "./icons.js";
import { cost } from "./local-storage.js";
import { brief, clock, count, isFinal, many, short, span, statusWord, waits } from "./format.js";

const STREAM = {
  live: "",
  ended: "",
  reconnecting: "Reconnecting…",
  elsewhere: "Waiting to follow it",
  gone: "It isn't there any more",
};

export class RunHead {
  constructor({ stop, more, force, again }) {
    this.title = h("h1", { tabindex: "-1" }, "…");
    this.badge = h("span", { class: "badge large" });
    this.time = h("span", { class: "age" });
    this.asked = h("p", { class: "asked" });
    this.facts = h("div", { class: "facts" });
    this.doing = h("p", { class: "doing" });
    this.error = h("p", { class: "problem", hidden: true });
    this.streaming = h("span", { class: "stream", role: "status" });
    const button = (kind, picture, words, work, more_ = {}) =>
      h("button", { type: "button", class: kind, onclick: work, hidden: true, ...more_ }, icon(picture), words);
    this.stop = button("stop", "stop", "Stop", stop);
    this.more = button("stop more", "more", "", more, {
      "aria-label": "Stop with reason, grace, scope",
      title: "Stop with reason, grace, scope",
    });
    this.force = button("force", "force", "Force", force, { title: "Leave no more time for cleanup" });
    this.again = button("main", "again", "Continue", again, { title: "Go on in a new run: what had finished is kept" });
    this.element = h(
      "header",
      { class: "run-head" },
      h("a", { class: "back", href: "#/" }, icon("back"), "Runs"),
      h(
        "div",
        { class: "line" },
        h(
          "div",
          { class: "who" },
          h("div", { class: "state" }, this.badge, this.time, this.streaming),
          this.title,
          this.asked,
        ),
        h("div", { class: "buttons" }, h("div", { class: "joined" }, this.stop, this.more), this.force, this.again),
      ),
      this.facts,
      this.doing,
      this.error,
    );
  }

  /** Say how the stream of events goes. */
  stream(name, words) {
    say(this.streaming, STREAM[name] ?? "");
    this.streaming.title = words ?? "";
  }

  show({ known, model, life, status, record, now }) {
    this.showStatus(status);
    this.showTime(status, known, model, record, now);
    if (known) {
      say(this.title, known.name || known.id || known.kind);
      document.title = `${statusWord(status)}: ${known.name || known.id} – desist`;
      say(this.asked, brief(known.asked, 300));
      this.showFacts(known, model);
    }
    const error = status === "ERROR" ? (model.ending?.error ?? known?.output?.error ?? "") : "";
    this.error.hidden = !error;
    say(this.error, error);
    const blocked = status === "RUNNING" ? waits(life?.runs ?? []).join(" · ") : "";
    say(this.doing, blocked && `Now: ${blocked}`);
    this.buttons(status);
  }

  showStatus(status) {
    if (this.status === status) return;
    this.status = status;
    this.badge.dataset.status = status;
    this.badge.replaceChildren(statusIcon(status), statusWord(status));
  }

  showTime(status, known, model, record, now) {
    const start = model.root?.start ?? known?.created_at;
    if (!start) return;
    if (!isFinal(status)) return say(this.time, clock(now - start));
    const end = model.root?.end;
    const took = known?.duration ?? (end ? end - start : record?.settled_at ? record.settled_at - start : null);
    return say(this.time, took === null ? "" : `after ${span(took)}`);
  }

  buttons(status) {
    const focused = document.activeElement;
    const live = !isFinal(status);
    this.stop.hidden = this.more.hidden = !live;
    this.stop.disabled = this.more.disabled = status === "CANCELLING";
    say(this.stop.lastChild, status === "CANCELLING" ? "Stopping…" : "Stop");
    this.force.hidden = status !== "CANCELLING";
    this.again.hidden = !(status === "CANCELLED" || status === "ERROR");
    if ([this.stop, this.more, this.force].includes(focused) && (focused.hidden || focused.disabled)) {
      [this.force, this.again, this.title].find((one) => !one.hidden).focus(); // it doesn't get lost
    }
  }

  showFacts(known, model) {
    const used = usage(known, model);
    const money = cost(used);
    const facts = [
      ["Run", known.run_id, short(known.run_id)],
      known.continued_from
        ? [
            "Goes on with",
            known.continued_from,
            short(known.continued_from),
            `#/runs/${encodeURIComponent(known.continued_from)}`,
          ]
        : null,
      ["Session", known.session_id, short(known.session_id)],
      ["User", known.user_id, known.user_id],
      [
        "Tokens",
        "",
        used.total_tokens
          ? `${count(used.total_tokens)}${used.model_calls ? ` in ${many(used.model_calls, "call")}` : ""}`
          : "",
      ],
      ["Cost", "", money],
    ].filter((fact) => fact && fact[2]);
    const said = JSON.stringify(facts);
    if (said === this.said) return;
    this.said = said;
    this.facts.replaceChildren(
      ...facts.map(([name, title, text, link]) =>
        h(
          "span",
          { class: "fact", title },
          h("span", { class: "dim" }, name),
          " ",
          link ? h("a", { href: link }, text) : text,
          title && name !== "User" ? copier(name, title) : null,
        ),
      ),
    );
  }
}

/** Return a button that copies an id. */
function copier(name, value) {
  if (!navigator.clipboard) return null; // over plain HTTP from another machine
  const button = h(
    "button",
    {
      type: "button",
      class: "quiet copy",
      "aria-label": `Copy the id: ${name}`,
      title: "Copy",
      onclick: async () => {
        await navigator.clipboard.writeText(value);
        announce("Copied.");
        button.replaceChildren(icon("done"));
      },
    },
    icon("copy"),
  );
  return button;
}

function usage(known, model) {
  if (model.used.total_tokens) return model.used;
  const metrics = known.output?.metrics;
  if (!metrics) return {};
  if (!metrics.steps) return metrics;
  const sum = {};
  for (const { metrics: one } of Object.values(metrics.steps))
    for (const [name, value] of Object.entries(one ?? {})) sum[name] = (sum[name] ?? 0) + value;
  return sum;
}
