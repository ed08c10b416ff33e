// The events of a run as they were told: number, time, name, what it says; the whole of the one that is chosen.

import { h, onFrame, say } from "./dom.js";
import { timeOf } from "./run-model.js";
import { VirtualList } from "./virtual-list.js";
import { after, brief, many, whole } from "./format.js";

const TEXT = new Set(["RunContent", "RunIntermediateContent", "ReasoningContentDelta", "StepOutput"]);

/** The list. Set `model`, call `update()`. */
class EventList extends HTMLElement {
  connectedCallback() {
    if (this.list) return;
    this.find = h("input", {
      type: "search",
      placeholder: "Filter: name, step, agent",
      "aria-label": "Filter events",
      oninput: () => this.refilter(),
    });
    this.pieces = h("input", { type: "checkbox", checked: true, onchange: () => this.refilter() });
    this.total = h("span", { class: "dim" });
    this.box = h("div", { class: "rows", id: "events", role: "listbox", "aria-label": "Events" });
    this.detail = h("pre", {
      class: "detail",
      tabindex: "0",
      role: "region",
      "aria-label": "The chosen event",
      hidden: true,
    });
    this.append(
      h(
        "div",
        { class: "tools" },
        this.find,
        h("label", { class: "check" }, this.pieces, "pieces of text"),
        this.total,
      ),
      this.box,
      this.detail,
    );
    this.list = new VirtualList(this.box, {
      make,
      fill: (row, index) => this.fill(row, index),
      height: 30,
      onchoose: (index) => this.chosen(index),
    });
    this.list.sticks = true;
    this.box.addEventListener("keydown", (event) => this.list.key(event));
    this.shown = [];
    this.seen = 0;
    this.update = onFrame(() => this.draw());
  }

  refilter() {
    this.shown = [];
    this.seen = 0;
    this.list.active = -1;
    this.update();
  }

  draw() {
    const { model } = this;
    if (!model) return;
    if (this.seen > model.events.length) this.refilter();
    const word = this.find.value.trim().toLowerCase();
    for (; this.seen < model.events.length; this.seen++) {
      const event = model.events[this.seen];
      if (TEXT.has(event.event) && !this.pieces.checked) continue;
      if (!word || wordsOf(event).includes(word)) this.shown.push(event);
    }
    const all = model.events.length;
    say(this.total, this.shown.length === all ? many(all, "event") : `${this.shown.length} of ${many(all, "event")}`);
    this.list.setCount(this.shown.length);
  }

  fill(row, index) {
    const event = this.shown[index];
    if (event === undefined || row.event === event) return; // scrolled between a change of the filter and its drawing
    row.event = event;
    const start = this.model.root?.start ?? timeOf(event);
    say(row.number, event.event_index === undefined ? "–" : `#${event.event_index}`);
    say(row.time, after(timeOf(event) - start));
    say(row.label, event.event);
    say(row.what, [event.agent_name || event.step_name, summary(event)].filter(Boolean).join(" · "));
    row.dataset.text = TEXT.has(event.event);
  }

  chosen(index) {
    this.detail.hidden = false;
    say(this.detail, whole(this.shown[index]));
  }
}

function make() {
  const row = h("div", { class: "event", role: "option" });
  for (const name of ["number", "time", "label", "what"]) row.append((row[name] = h("span", { class: name })));
  return row;
}

const wordsOf = (event) =>
  [event.event, event.step_name, event.agent_name, event.tool?.tool_name].join(" ").toLowerCase();

function summary(event) {
  if (event.tool)
    return `${event.tool.tool_name}${event.tool.result === undefined ? "" : ` → ${brief(event.tool.result, 80)}`}`;
  if (event.reasoning_content) return brief(event.reasoning_content);
  if (event.total_tokens !== undefined) return `${event.model ?? ""} ${event.total_tokens} tokens`;
  return brief(event.content ?? event.error ?? event.reason ?? event.step_output?.content);
}

customElements.define("desist-events", EventList);
