// What a run says, as it says it: a section for each speaker, always at the end unless its reader scrolled up.

import { h, onFrame, say } from "./dom.js";
import { count } from "./format.js";

/** The text. Set `model` and `stopping`, call `update()`. */
class TextView extends HTMLElement {
  connectedCallback() {
    if (this.box) return;
    this.box = h("div", { class: "text", tabindex: "0", role: "region", "aria-label": "Text" });
    this.empty = h("p", { class: "empty" }, "Nothing was said yet.");
    this.latest = h(
      "button",
      { class: "latest", type: "button", hidden: true, onclick: () => this.toEnd() },
      "↓ Newest text",
    );
    this.append(this.box, this.empty, this.latest);
    this.sections = new Map();
    this.follows = true;
    this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.update = onFrame(() => this.draw());
  }

  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.box;
    this.follows = scrollTop + clientHeight >= scrollHeight - 40;
    this.latest.hidden = this.follows;
  }

  toEnd() {
    this.follows = true;
    this.box.scrollTop = this.box.scrollHeight;
    this.latest.hidden = true;
    this.box.focus();
  }

  draw() {
    const { model } = this;
    if (!model) return;
    if (this.drawn !== model.texts.changed) this.drawNew(model);
    this.speaking();
  }

  drawNew(model) {
    this.drawn = model.texts.changed;
    for (const speaker of model.texts.speakers.values()) this.section(speaker);
    this.empty.hidden = this.sections.size > 0;
    if (this.follows) this.box.scrollTop = this.box.scrollHeight;
  }

  /** Mark whoever spoke last, while the run lives. */
  speaking() {
    const speakers = [...this.model.texts.speakers.values()];
    const last =
      this.model.ending || this.stopping
        ? null
        : speakers.reduce((one, two) => (one && one.changed > two.changed ? one : two), null);
    for (const [key, section] of this.sections) section.element.classList.toggle("speaking", key === last?.key);
  }

  section(speaker) {
    let section = this.sections.get(speaker.key);
    if (!section) {
      section = new Section(speaker);
      this.sections.set(speaker.key, section);
      this.box.append(section.element);
    }
    section.draw(speaker);
  }

  forget() {
    this.sections.clear();
    this.box.replaceChildren();
    this.drawn = -1;
  }
}

class Section {
  constructor(speaker) {
    const under = speaker.step && speaker.step !== speaker.name ? h("span", { class: "dim" }, speaker.step) : null;
    this.size = h("span", { class: "dim size" });
    this.body = h("div", { class: "said" });
    this.element = h("section", {}, h("h3", {}, speaker.name || "text", under, this.size), this.body);
    this.parts = [];
  }

  draw(speaker) {
    if (this.changed === speaker.changed) return;
    this.changed = speaker.changed;
    speaker.pieces.forEach((piece, index) => this.piece(piece, index));
    for (const extra of this.parts.splice(speaker.pieces.length)) extra.element.remove();
    say(this.size, `${count(speaker.length)} characters`);
    if (speaker.cut && !this.end) {
      this.end = h("p", { class: "cut" }, speaker.cut);
      this.element.append(this.end);
    }
  }

  /** Bring a piece up to date. Only what is new is added, so that what is there stays as it is. */
  piece(piece, index) {
    let part = this.parts[index];
    if (!part) {
      part = { text: document.createTextNode(""), shown: "" };
      part.element = h("span", { class: piece.reasoning ? "thought" : "piece" }, part.text);
      this.parts.push(part);
      this.body.append(part.element);
    }
    if (piece.block) part.element.classList.add("block");
    if (part.shown === piece.text) return;
    if (piece.text.startsWith(part.shown)) part.text.appendData(piece.text.slice(part.shown.length));
    else part.text.data = piece.text;
    part.shown = piece.text;
  }
}

customElements.define("desist-text", TextView);
