// The work of a run as a tree and in time: a row a span, bars that grow, a line where it was stopped.

import { h, mark, onFrame, say } from "./dom.js";
import { kindIcon, statusIcon } from "./icons.js";
import { args, brief, span as spanWords, statusWord } from "./format.js";
import { VirtualList } from "./virtual-list.js";

const NARROW = matchMedia("(max-width: 640px)");

/** The tree. Set `model`, `clock` and `stopping`, call `update()`; it tells `desist-span` when one is chosen. */
class Waterfall extends HTMLElement {
  connectedCallback() {
    if (this.list) return;
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.box = h("div", { class: "rows", id: "spans", role: "tree", "aria-label": "Steps" });
    this.append(this.axis, this.box);
    this.list = new VirtualList(this.box, {
      make,
      fill: (row, index) => this.fill(row, index),
      height: this.rowHeight,
      onchoose: (index) => this.chosen(index),
    });
    this.list.sticks = true;
    this.box.addEventListener("keydown", (event) => this.key(event));
    NARROW.addEventListener("change", () => this.list.setHeight(this.rowHeight));
    this.update = onFrame(() => this.draw());
  }

  get rowHeight() {
    return NARROW.matches ? 50 : 32;
  }

  draw() {
    const { model } = this;
    if (!model) return;
    if (this.shape !== model.shape) {
      this.shape = model.shape;
      this.spans = model.rows();
      this.list.active = this.picked ? this.spans.indexOf(this.picked) : -1;
      this.box.style.setProperty("--count", this.spans.length);
    }
    this.from = model.root?.start ?? 0;
    const until = model.open.size ? this.clock() : Math.max(this.from, ...model.roots.map((span) => span.end ?? 0));
    this.length = Math.max(until - this.from, 0.001);
    this.drawAxis();
    this.list.setCount(this.spans?.length ?? 0);
  }

  drawAxis() {
    const step = nice(this.length / (NARROW.matches ? 3 : 5));
    const marks = [];
    for (let at = 0; at < this.length * 0.93; at += step) {
      const tick = h("span", { class: "tick" }, at ? spanWords(at) : "0");
      tick.style.left = `${(100 * at) / this.length}%`;
      marks.push(tick);
    }
    const stopped = this.model.record?.requested_at;
    if (stopped && this.from) {
      const line = h("span", { class: "stopped" }, "stop");
      const left = Math.min(100, (100 * (stopped - this.from)) / this.length);
      line.style.left = `${left}%`;
      line.classList.toggle("late", left > 80);
      marks.push(line);
    }
    this.axis.replaceChildren(...marks);
  }

  fill(row, index) {
    const span = this.spans[index];
    const status = this.stopping && span.end === null ? "CANCELLING" : span.status;
    const changed =
      row.span !== span || row.status !== status || row.folded !== span.folded || row.has !== span.children.length > 0;
    row.span = span;
    if (changed) fillName(row, span, status);
    if (row.note.textContent !== span.note) say(row.note, span.note);
    const end = span.end ?? this.clock();
    const left = Math.max(0, Math.min(100, (100 * (span.start - this.from)) / this.length));
    const width = Math.max(0, Math.min(100 - left, (100 * (end - span.start)) / this.length));
    row.bar.style.left = `${left}%`;
    row.bar.style.width = `${width}%`;
    say(row.took, span.status === "KEPT" ? "kept" : spanWords(end - span.start));
  }

  chosen(index) {
    this.picked = this.spans[index];
    this.dispatchEvent(new CustomEvent("desist-span", { detail: this.picked, bubbles: true }));
  }

  key(event) {
    const span = this.spans[this.list.active];
    if (span && event.key === "ArrowLeft") {
      if (span.children.length && !span.folded) this.fold(span, true);
      else if (span.parent) this.list.choose(this.spans.indexOf(span.parent));
    } else if (span && event.key === "ArrowRight") {
      if (span.folded) this.fold(span, false);
      else if (span.children.length) this.list.choose(this.list.active + 1);
    } else if (!this.list.key(event)) return;
    event.preventDefault();
  }

  fold(span, folded) {
    span.folded = folded;
    this.shape = -1;
    this.update();
  }
}

function make() {
  const row = h("div", { class: "span", role: "treeitem" });
  row.twist = h("span", { class: "twist" });
  row.icons = h("span", { class: "icons" });
  row.label = h("span", { class: "label" });
  row.note = h("span", { class: "note" });
  row.bar = h("span", { class: "bar" });
  row.took = h("span", { class: "took" });
  row.twist.addEventListener("click", (event) => {
    event.stopPropagation();
    if (row.span.children.length) row.closest("desist-waterfall").fold(row.span, !row.span.folded);
  });
  row.append(
    h("span", { class: "name" }, row.twist, row.icons, row.label, row.note),
    h("span", { class: "track" }, row.bar),
    row.took,
  );
  return row;
}

function fillName(row, span, status) {
  Object.assign(row, { status, folded: span.folded, has: span.children.length > 0 });
  row.style.setProperty("--depth", span.depth);
  row.dataset.status = status;
  row.dataset.kind = span.kind;
  mark(row, "aria-level", span.depth + 1);
  mark(row, "aria-expanded", span.children.length ? String(!span.folded) : null);
  row.icons.replaceChildren(kindIcon(span.kind), statusIcon(status));
  row.label.replaceChildren(span.name, ...toolWords(span));
  row.label.title = span.name;
  row.icons.append(h("span", { class: "unseen" }, `${span.kind}, ${statusWord(status)}: `));
}

function toolWords(span) {
  const tool = span.said.tool;
  if (!tool) return [];
  const given = h("span", { class: "given" }, `(${args(tool.tool_args)})`);
  return tool.result === undefined || tool.cancelled
    ? [given]
    : [given, h("span", { class: "result" }, ` → ${brief(tool.result, 60)}`)];
}

function nice(rough) {
  const size = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((by) => by * size).find((step) => step >= rough);
}

customElements.define("desist-waterfall", Waterfall);
