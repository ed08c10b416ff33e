// A run in the list of runs. Its element stays while the run is listed, so that focus and choice do.

import { Unreachable } from "./api.js";
import { h, say } from "./dom.js";
import { icon, statusIcon } from "./icons.js";
import { stopNow } from "./cancel.js";
import { at, brief, clock, isFinal, many, short, sourceWords, span, statusWord } from "./format.js";

export class RunRow {
  constructor(id, { changed, problem }) {
    Object.assign(this, { id, problem });
    this.pick = h("input", { type: "checkbox", onchange: changed });
    this.badge = h("span", { class: "badge" });
    this.time = h("span", { class: "age" });
    this.name = h("a", { class: "title", href: `#/runs/${encodeURIComponent(id)}` });
    this.asked = h("span", { class: "asked" });
    this.doing = h("span", { class: "doing" });
    this.began = h("span", { class: "began" });
    this.button = h(
      "button",
      { type: "button", class: "stop small", onclick: () => this.stop() },
      icon("stop"),
      "Stop",
    );
    this.element = h(
      "li",
      { class: "run" },
      h("label", { class: "check pick" }, this.pick),
      h("span", { class: "state" }, this.badge, this.time),
      h("span", { class: "which" }, this.name, this.asked),
      this.doing,
      this.began,
      h("span", { class: "act" }, this.button),
    );
  }

  get lives() {
    return !isFinal(this.run.status) && this.run.status !== "CANCELLING";
  }

  update(run, now) {
    this.run = run;
    this.words = [run.name, run.id, run.asked, run.run_id, run.session_id, run.user_id].join(" ").toLowerCase();
    if (isFinal(run.status)) this.pressed = false;
    this.showStatus();
    say(this.name, run.name || run.id || run.kind);
    say(this.asked, brief(run.asked, 120) || short(run.run_id));
    this.asked.title = run.run_id;
    say(this.doing, doing(run));
    say(this.began, at(run.created_at));
    this.pick.setAttribute("aria-label", `Choose ${run.name ?? run.id} ${short(run.run_id)}`);
    this.button.setAttribute("aria-label", `Stop ${run.name ?? run.id} ${short(run.run_id)}`);
    this.age(now);
  }

  showStatus() {
    const status = this.pressed ? "CANCELLING" : this.run.status;
    const live = !isFinal(status) && status !== "CANCELLING";
    this.pick.disabled = !live;
    this.button.hidden = !live;
    if (this.status === status) return;
    this.status = status;
    this.badge.dataset.status = status;
    this.element.dataset.status = status;
    this.badge.replaceChildren(statusIcon(status), statusWord(status));
  }

  age(now) {
    const { run } = this;
    const took = run.duration;
    say(
      this.time,
      isFinal(run.status) ? (took === null || took === undefined ? "" : span(took)) : clock(now - run.created_at),
    );
  }

  async stop() {
    this.pressed = true;
    this.showStatus();
    this.name.focus(); // the button goes
    try {
      await stopNow(this.id);
    } catch (error) {
      this.pressed = false;
      this.showStatus();
      this.problem(
        error instanceof Unreachable ? error : new Error(`${this.run.name ?? this.run.id}: ${error.message}`),
      );
    }
  }
}

function doing(run) {
  if (run.cancel) {
    const why = run.cancel.reason ? `“${brief(run.cancel.reason, 80)}”` : sourceWords(run.cancel.source).toLowerCase();
    const left = run.cancel.abandoned?.length;
    return `${run.cancel.by && run.cancel.by !== "desist" ? `${run.cancel.by}: ` : ""}${why}${left ? ` · ${many(left, "abandoned call")}` : ""}`;
  }
  return (run.steps ?? []).join(" · ");
}
