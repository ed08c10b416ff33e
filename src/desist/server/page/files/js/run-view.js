// One run: its head with Stop, the story of its stop, the waterfall, and beside it text, tools, events.

import "./event-list.js";
import "./cancel-timeline.js";
import "./text-view.js";
import "./waterfall.js";
import { Problem, continueRun, getLife, getRun, now, setClock } from "./api.js";
import { details, toolList } from "./details.js";
import { announce, every, h, onFrame } from "./dom.js";
import { follow } from "./follow.js";
import { RunHead } from "./run-head.js";
import { RunModel } from "./run-model.js";
import { showKept, showRecord } from "./recorded-run.js";
import { forceNow, openStop, stopNow } from "./cancel.js";
import { storyOf } from "./cancel-timeline.js";
import { Tabs } from "./tabs.js";
import { isFinal, span as spanWords, statusWord } from "./format.js";

const SLOW = 1000; // milliseconds between two looks at a run that lives
const FAST = 200; // ... at one that is being stopped

class RunView extends HTMLElement {
  connectedCallback() {
    this.gone = new AbortController();
    this.model = new RunModel(this.runId);
    this.life = null;
    this.known = null; // what the server knows of it
    this.pressed = false;
    this.build();
    this.draw = onFrame(() => this.drawNow());
    every(250, () => this.isOpen && this.draw(), this.gone.signal);
    this.load();
  }

  disconnectedCallback() {
    this.gone.abort();
  }

  build() {
    this.head = new RunHead({
      stop: () => this.stop(),
      more: () => openStop({ runId: this.runId, name: this.name, stopped: (receipt) => this.stopped(receipt) }),
      force: () => this.act(() => forceNow(this.runId)),
      again: () => this.act(() => this.goOn()),
    });
    this.trouble = h("p", { class: "problem", role: "alert", hidden: true });
    this.story = h("desist-story", {});
    this.stopping = h(
      "section",
      { class: "card stopping", hidden: true, "aria-label": "How it was stopped" },
      h("h2", {}, "Stop"),
      this.story,
    );
    this.waterfall = h("desist-waterfall", { model: this.model, clock: now });
    this.detail = h("div", { class: "chosen", hidden: true });
    this.text = h("desist-text", { model: this.model });
    this.events = h("desist-events", { model: this.model });
    this.tools = h("div", { class: "tool-list" });
    this.tabs = new Tabs("What it says and does", [
      ["text", "Text", this.text],
      ["tools", "Tools", this.tools],
      ["events", "Events", this.events],
    ]);
    this.append(
      this.head.element,
      this.trouble,
      h(
        "div",
        { class: "columns" },
        this.stopping,
        h("section", { class: "card steps", "aria-label": "Steps" }, h("h2", {}, "Steps"), this.waterfall, this.detail),
        h("section", { class: "card output", "aria-label": "Output" }, this.tabs.element),
      ),
    );
    this.addEventListener("desist-span", (event) => this.choose(event.detail));
    addEventListener("desist-likes", () => this.draw(), { signal: this.gone.signal });
  }

  get name() {
    return this.known?.name ?? this.known?.id ?? "run";
  }

  get status() {
    const told = this.model.ending ? this.model.root?.status : undefined;
    const status = told ?? this.life?.status ?? this.known?.status ?? "PENDING";
    return this.pressed && !isFinal(status) ? "CANCELLING" : status;
  }

  get isOpen() {
    return !isFinal(this.status) || this.life?.left.length > 0;
  }

  get record() {
    return this.model.record ?? this.life?.cancel ?? this.known?.cancel ?? null;
  }

  // -- what the server says

  async load() {
    try {
      await this.refresh();
      if (this.known.root_run_id !== this.runId)
        return void location.replace(`#/runs/${encodeURIComponent(this.known.root_run_id)}`);
    } catch (error) {
      if (this.gone.signal.aborted) return;
      this.trouble.hidden = false;
      this.trouble.textContent =
        error instanceof Problem && error.status === 404
          ? "There is no run with this id, or none that you may see."
          : error.message;
      if (error instanceof Problem) return;
    }
    follow(this.runId, {
      take: (events) => this.take(events),
      state: (name, words) => this.streams(name, words),
      signal: this.gone.signal,
    });
    this.watch();
  }

  async refresh() {
    this.known = await getRun(this.runId, this.gone.signal);
    if (this.known.continued_from && this.known.output.step_results) this.keepSteps();
    this.draw();
  }

  take(events) {
    const before = this.model.ending;
    this.model.take(events);
    if (this.known?.continued_from) this.keepSteps();
    if (!before && this.model.ending) this.ended();
    this.draw();
  }

  keepSteps() {
    const told = new Set([...this.model.walk()].map((span) => span.stepId));
    const kept = (this.known.output.step_results ?? []).filter((made) => !told.has(made.step_id) && !made.cancelled);
    if (this.model.root && kept.length) showKept(this.model, kept);
  }

  ended() {
    const record = this.model.record;
    const settled = record?.settled_at ? `, settled after ${spanWords(record.settled_at - record.requested_at)}` : "";
    this.look?.();
    announce(`The run is ${statusWord(this.model.root?.status).toLowerCase()}${settled}.`);
  }

  async streams(name, words) {
    this.head.stream(name, words);
    if (name === "reconnecting") announce("The connection was lost. Reconnecting.");
    if (name !== "ended") return;
    await this.refresh().catch(() => {});
    if (this.known) showRecord(this.model, this.known);
    this.draw();
  }

  async watch() {
    const { signal } = this.gone;
    let fast = null;
    const look = async () => {
      if (!this.isOpen && this.lookedLast) return;
      const last = isFinal(this.status);
      try {
        if (!this.known) await this.refresh(); // the server couldn't be reached when the page was opened
        this.life = await getLife(this.runId, signal);
        this.lookedLast = last; // what was given up is known only after the end
        setClock(this.life.now);
        this.model.alive(this.life.runs, this.life.now);
        this.trouble.hidden = true;
        this.draw();
      } catch {
        // the stream says that the connection is lost
      }
      if (this.status === "CANCELLING" && !fast) fast = setTimeout(() => ((fast = null), look()), FAST);
    };
    this.look = look;
    every(SLOW, look, signal);
    await look();
  }

  // -- what the user does

  async act(work) {
    this.trouble.hidden = true;
    try {
      await work();
    } catch (error) {
      this.trouble.hidden = false;
      this.trouble.textContent = error.message;
    }
    this.draw();
  }

  stop() {
    return this.act(async () => {
      this.pressed = true;
      this.draw();
      announce("Stopping.");
      try {
        this.stopped(await stopNow(this.runId));
      } catch (error) {
        this.pressed = false;
        throw error;
      }
    });
  }

  stopped(receipt) {
    this.pressed = receipt.run_id === this.runId;
    if (this.life && receipt.run_id === this.runId) this.life.cancel = receipt;
    this.draw();
    this.look?.();
  }

  async goOn() {
    const next = await continueRun(this.runId);
    location.hash = `#/runs/${encodeURIComponent(next.run_id)}`;
  }

  choose(span) {
    this.picked = span;
    this.detail.hidden = false;
    this.drawDetail();
  }

  stopPart(span) {
    openStop({
      runId: this.runId,
      name: this.name,
      part: { runId: span.runId, name: span.name },
      stopped: (receipt) => this.stopped(receipt),
    });
  }

  // -- showing it

  drawNow() {
    this.head.show({
      known: this.known,
      model: this.model,
      life: this.life,
      status: this.status,
      record: this.record,
      now: now(),
    });
    this.waterfall.stopping = this.text.stopping = this.status === "CANCELLING";
    this.waterfall.update();
    this.text.update();
    this.events.update();
    this.drawTools();
    this.drawStory();
    this.drawDetail();
  }

  drawStory() {
    const { record } = this;
    this.stopping.hidden = !record;
    if (!record?.requested_at) return;
    const settled = isFinal(this.status) && record.settled_at !== undefined && record.settled_at !== null;
    this.story.show(storyOf({ record, life: this.life, tools: this.model.tools, settled, now: now() }));
  }

  drawTools() {
    const tools = this.model.tools;
    const state = tools.map((span) => span.status).join();
    if (this.toolState === state && this.toolState !== undefined) return;
    this.toolState = state;
    this.tabs.count("tools", tools.length);
    this.tools.replaceChildren(toolList(tools, now()));
  }

  drawDetail() {
    this.tabs.count("events", this.model.events.length);
    const span = this.picked;
    if (!span) return;
    const state = `${span.key} ${span.status} ${span.start}`;
    if (state === this.detailState) return;
    this.detailState = state;
    this.detail.replaceChildren(details(span, now(), (part) => this.stopPart(part)));
  }
}

customElements.define("desist-run", RunView);
