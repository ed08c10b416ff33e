// Tabs: one panel of several. Arrow keys go from tab to tab.

import { h, say } from "./dom.js";
import { count } from "./format.js";

export class Tabs {
  /** `panels` is [[key, title, element]]; the first one is shown. */
  constructor(label, panels) {
    this.tabs = new Map();
    const bar = h("div", {
      class: "tabs",
      role: "tablist",
      "aria-label": label,
      onkeydown: (event) => this.key(event),
    });
    const parts = panels.map(([key, title, element]) => {
      const number = h("span", { class: "number" });
      const tab = h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${key}`,
          "aria-controls": `panel-${key}`,
          onclick: () => this.show(key),
        },
        title,
        number,
      );
      const panel = h(
        "div",
        { class: "panel", role: "tabpanel", id: `panel-${key}`, "aria-labelledby": `tab-${key}` },
        element,
      );
      this.tabs.set(key, { tab, panel, number });
      bar.append(tab);
      return panel;
    });
    this.element = h("div", { class: "tabbed" }, bar, parts);
    this.show(panels[0][0]);
  }

  show(key) {
    for (const [one, { tab, panel }] of this.tabs) {
      tab.setAttribute("aria-selected", one === key);
      tab.tabIndex = one === key ? 0 : -1;
      panel.hidden = one !== key;
    }
    this.shown = key;
  }

  count(key, number) {
    say(this.tabs.get(key).number, number ? count(number) : "");
  }

  key(event) {
    const keys = [...this.tabs.keys()];
    const here = keys.indexOf(this.shown);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: keys.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const key = keys[(to + keys.length) % keys.length];
    this.show(key);
    this.tabs.get(key).tab.focus();
  }
}
