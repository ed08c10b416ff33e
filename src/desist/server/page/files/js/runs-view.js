// All runs, the newest first, as they stand now. Filter them, choose some, stop one or many.

import { Problem, components, listRuns, now } from "./api.js";
import { openBulk } from "./bulk-cancel.js";
import { announce, every, h, onFrame, say } from "./dom.js";
import { icon } from "./icons.js";
import { RunRow } from "./run-row.js";
import { isFinal, many } from "./format.js";

const PAGE = 50;
const MOST = 200; // rows that are kept up to date; the server gives no more at once
const STATUSES = [
  ["", "All"],
  ["RUNNING", "Running"],
  ["CANCELLING", "Stopping"],
  ["CANCELLED", "Cancelled"],
  ["COMPLETED", "Completed"],
  ["ERROR", "Failed"],
];

class RunsView extends HTMLElement {
  connectedCallback() {
    document.title = "Runs – desist";
    this.gone = new AbortController();
    this.rows = new Map();
    this.chosen = new Set();
    this.limit = PAGE;
    this.past = []; // runs older than the MOST newest, as they stood when they were asked for
    this.status = "";
    this.build();
    this.drawAges = onFrame(() => this.rows.forEach((row) => row.age(now())));
    every(1000, () => this.look(), this.gone.signal);
    every(500, () => this.drawAges(), this.gone.signal);
    this.look();
    this.served = components(this.gone.signal).catch(() => []);
    this.served.then((found) => this.known(found));
  }

  disconnectedCallback() {
    this.gone.abort();
  }

  build() {
    this.find = h("input", {
      type: "search",
      placeholder: "Find by name, input, id, user",
      "aria-label": "Find",
      oninput: () => this.draw(),
    });
    this.which = h(
      "select",
      { "aria-label": "Workflow or agent", onchange: () => this.again() },
      h("option", { value: "" }, "Everything"),
    );
    this.all = h("input", { type: "checkbox", "aria-label": "Choose all that run", onchange: () => this.chooseAll() });
    this.list = h("ul", { class: "runs" });
    this.empty = h("div", { class: "empty", hidden: true });
    this.trouble = h("p", { class: "problem", role: "alert", hidden: true });
    this.older = h("button", { type: "button", hidden: true, onclick: () => this.showMore() }, "Older runs");
    this.append(
      h(
        "div",
        { class: "view-head" },
        h("h1", { tabindex: "-1" }, "Runs"),
        h("a", { class: "button main", href: "#/start" }, icon("plus"), "Start a run"),
      ),
      h("div", { class: "filters" }, this.statuses(), this.which, this.find),
      this.trouble,
      h(
        "div",
        { class: "card list" },
        h(
          "div",
          { class: "list-head" },
          h("label", { class: "check pick" }, this.all),
          h("span", {}, "Status"),
          h("span", {}, "Run"),
          h("span", {}, "Doing"),
          h("span", { class: "right" }, "Began"),
          h("button", { type: "button", class: "small quiet", onclick: () => this.stopMany() }, "Stop many…"),
        ),
        this.list,
        this.empty,
      ),
      this.older,
      this.selection(),
    );
  }

  statuses() {
    const option = ([value, words]) =>
      h("label", {}, h("input", { type: "radio", name: "status", value, checked: value === "" }), h("span", {}, words));
    return h(
      "fieldset",
      { class: "choices", onchange: (event) => ((this.status = event.target.value), this.again()) },
      h("legend", { class: "unseen" }, "Status"),
      STATUSES.map(option),
    );
  }

  selection() {
    this.number = h("span", {});
    this.stopChosen = h(
      "button",
      { type: "button", class: "stop", onclick: () => this.stopSelected() },
      icon("stop"),
      "Stop",
    );
    this.bar = h(
      "div",
      { class: "selection", hidden: true, role: "region", "aria-label": "Chosen runs" },
      this.number,
      h("button", { type: "button", class: "quiet", onclick: () => this.choose([]) }, "Clear"),
      this.stopChosen,
    );
    return this.bar;
  }

  known(found) {
    for (const one of found) this.which.append(h("option", { value: `${one.kind}/${one.id}` }, one.name ?? one.id));
  }

  // -- what the server says

  again() {
    this.limit = PAGE;
    this.past = [];
    this.look();
  }

  /** Show older runs: kept up to date too, as long as there aren't many. */
  async showMore() {
    if (this.limit < MOST) {
      this.limit += PAGE;
    } else {
      try {
        const page = await listRuns({ ...this.query(), cursor: this.next }, this.gone.signal);
        this.past.push(...page.runs);
        this.pastNext = page.next;
      } catch (error) {
        this.problem(error);
        return;
      }
    }
    this.look();
  }

  query() {
    const [kind, ...id] = this.which.value.split("/");
    return { limit: this.limit, status: this.status, [kind || "workflow"]: id.join("/") };
  }

  async look() {
    const asked = (this.asked = Symbol("look"));
    try {
      const page = await listRuns(this.query(), this.gone.signal);
      if (this.asked === asked) this.told(page);
    } catch (error) {
      if (error instanceof Problem) this.problem(error);
    }
  }

  problem(error) {
    this.trouble.hidden = !error;
    say(this.trouble, error ? error.message : "");
  }

  told({ runs: newest, next }) {
    this.problem(null);
    const wanted = new Set(newest.map((run) => run.run_id));
    const older = this.past.filter((run) => !wanted.has(run.run_id));
    const runs = [...newest, ...older];
    for (const run of older) wanted.add(run.run_id);
    this.next = this.past.length ? this.pastNext : next;
    for (const id of [...this.rows.keys()]) if (!wanted.has(id)) this.rows.delete(id);
    for (const run of runs) {
      if (!this.rows.has(run.run_id))
        this.rows.set(
          run.run_id,
          new RunRow(run.run_id, { changed: () => this.picked(), problem: (error) => this.problem(error) }),
        );
      this.rows.get(run.run_id).update(run, now());
      if (isFinal(run.status)) this.chosen.delete(run.run_id);
    }
    for (const id of [...this.chosen]) if (!wanted.has(id)) this.chosen.delete(id);
    this.order = runs.map((run) => run.run_id);
    this.older.hidden = !this.next;
    this.draw();
  }

  // -- showing them

  draw() {
    const word = this.find.value.trim().toLowerCase();
    const shown = (this.order ?? []).map((id) => this.rows.get(id)).filter((row) => !word || row.words.includes(word));
    const elements = shown.map((row) => row.element);
    elements.forEach(
      (element, index) =>
        this.list.children[index] !== element && this.list.insertBefore(element, this.list.children[index] ?? null),
    );
    while (this.list.children.length > elements.length) this.list.lastChild.remove();
    this.shown = shown;
    this.empty.hidden = elements.length > 0 || !this.order;
    if (!this.empty.hidden) this.sayEmpty(word);
    this.drawSelection();
  }

  sayEmpty(word) {
    const filtered = word || this.status || this.which.value;
    this.empty.replaceChildren(
      h("p", {}, filtered ? "No run fits." : "Nothing has run here yet."),
      filtered ? "" : h("a", { class: "button", href: "#/start" }, "Start a run"),
    );
  }

  // -- choosing and stopping

  picked() {
    this.chosen = new Set([...this.rows.values()].filter((row) => row.pick.checked).map((row) => row.id));
    this.drawSelection();
  }

  choose(ids) {
    this.chosen = new Set(ids);
    this.drawSelection();
  }

  chooseAll() {
    this.choose(this.all.checked ? this.shown.filter((row) => row.lives).map((row) => row.id) : []);
  }

  drawSelection() {
    for (const row of this.rows.values()) row.pick.checked = this.chosen.has(row.id);
    const live = (this.shown ?? []).filter((row) => row.lives).length;
    this.all.disabled = !live;
    this.all.checked = live > 0 && this.chosen.size >= live;
    this.all.indeterminate = this.chosen.size > 0 && this.chosen.size < live;
    this.bar.hidden = !this.chosen.size;
    say(this.number, `${this.chosen.size} chosen`);
    say(this.stopChosen.lastChild, `Stop ${many(this.chosen.size, "run")}…`);
  }

  stopSelected() {
    openBulk({ ids: [...this.chosen], served: this.served, done: (words) => this.stopped(words) });
  }

  stopMany() {
    openBulk({ ids: null, wanted: this.which.value, served: this.served, done: (words) => this.stopped(words) });
  }

  stopped(words) {
    announce(words);
    this.choose([]);
    this.look();
  }
}

customElements.define("desist-runs", RunsView);
