// The page: which view is shown, whether the server answers, the settings.

import "./runs-view.js";
import "./run-view.js";
import "./start-view.js";
import { connection } from "./api.js";
import { announce, h, pause } from "./dom.js";
import { icon } from "./icons.js";
import { isLocked, openSettings, unlock } from "./settings.js";

const main = document.getElementById("main");

/** Show what the address names: #/ the runs, #/runs/ID one of them, #/start or #/start/workflow/ID the form. */
function show() {
  const [place = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const view = h(place === "runs" && rest[0] ? "desist-run" : place === "start" ? "desist-start" : "desist-runs");
  if (view.localName === "desist-run") view.runId = rest[0];
  if (view.localName === "desist-start") view.wanted = rest;
  for (const link of document.querySelectorAll("[data-nav]")) {
    const here = link.dataset.nav === (place === "start" ? "start" : place === "" ? "runs" : "");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(view);
  scrollTo(0, 0);
}

/** Says that the server doesn't answer, and tries until it does. */
class Connection extends HTMLElement {
  connectedCallback() {
    connection.addEventListener("change", () => this.draw());
    this.draw();
  }

  draw() {
    this.replaceChildren(...(connection.ok ? [] : [h("span", { class: "dot" }), "No connection: trying again"]));
    this.classList.toggle("lost", !connection.ok);
    announce(connection.ok ? "" : "The server can't be reached. Trying again.");
    if (!connection.ok) this.probe();
  }

  async probe() {
    while (!connection.ok) {
      await pause(1000);
      await fetch(new URL("health", document.baseURI), { cache: "no-store" }).then(
        () => connection.note(true),
        () => {},
      );
    }
  }
}

customElements.define("desist-connection", Connection);
const settings = document.getElementById("settings");
settings.append(icon("gear"));
settings.addEventListener("click", openSettings);
const key = document.getElementById("unlock");
addEventListener("desist-token", () => (key.hidden = !isLocked()));
key.addEventListener("click", () => unlock().then(show, () => {}));
addEventListener("hashchange", () => {
  show();
  requestAnimationFrame(() => (main.querySelector("h1") ?? main).focus());
});
show();
