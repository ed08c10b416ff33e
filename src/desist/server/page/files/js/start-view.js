// Starting a run: of which workflow or agent, with what input, with which limits.

import { components, startRun } from "./api.js";
import { field } from "./dialog.js";
import { h } from "./dom.js";
import { attended } from "./follow.js";
import { icon, kindIcon } from "./icons.js";
import { schemaForm } from "./schema-form.js";

class StartView extends HTMLElement {
  connectedCallback() {
    document.title = "Start a run – desist";
    this.gone = new AbortController();
    this.trouble = h("p", { class: "problem", role: "alert", hidden: true });
    this.choices = h("fieldset", { class: "components" }, h("legend", {}, "What to run"));
    this.input = h("div", { class: "input" });
    this.send = h("button", { type: "submit", class: "main", disabled: true }, icon("again"), "Start");
    this.form = h(
      "form",
      { class: "card start", onsubmit: (event) => this.submit(event) },
      this.choices,
      h(
        "div",
        { class: "order" },
        this.input,
        this.limits(),
        this.trouble,
        h(
          "footer",
          {},
          this.send,
          h("span", { class: "hint" }, "It lives on the server: you may close this page, and come back."),
        ),
      ),
    );
    this.append(h("div", { class: "view-head" }, h("h1", { tabindex: "-1" }, "Start a run")), this.form);
    components(this.gone.signal).then(
      (known) => this.known(known),
      (error) => this.problem(error),
    );
  }

  disconnectedCallback() {
    this.gone.abort();
  }

  limits() {
    const number = (more = {}) =>
      h("input", { type: "number", min: "0", step: "any", inputMode: "decimal", placeholder: "none", ...more });
    this.timeout = number();
    this.tokens = number({ step: "1" });
    this.session = h("input", { type: "text", maxLength: 200, placeholder: "a new one" });
    this.user = h("input", { type: "text", maxLength: 200, placeholder: "nobody" });
    this.leave = h("input", { type: "checkbox" });
    return h(
      "details",
      {},
      h("summary", {}, "Limits, session, user"),
      h(
        "div",
        { class: "pair" },
        field("Stop it after, in seconds", this.timeout),
        field("Stop it after so many tokens", this.tokens),
      ),
      h(
        "div",
        { class: "pair" },
        field("Session", this.session, "To go on with an earlier talk."),
        field("User", this.user),
      ),
      h("label", { class: "check" }, this.leave, "Stop it when this page is left"),
    );
  }

  known(found) {
    const [kind, id] = this.wanted ?? [];
    const first = found.find((one) => one.kind === kind && one.id === id) ?? found[0];
    this.choices.append(
      h(
        "div",
        { class: "grid" },
        found.map((one) =>
          h(
            "label",
            { class: "component" },
            h("input", { type: "radio", name: "component", checked: one === first, onchange: () => this.choose(one) }),
            h(
              "span",
              { class: "about" },
              h("span", { class: "title" }, kindIcon(one.kind), one.name ?? one.id),
              h("span", { class: "dim" }, one.description || one.kind),
            ),
          ),
        ),
      ),
    );
    if (first) this.choose(first);
  }

  choose(one) {
    this.chosen = one;
    if (one.input_schema) {
      this.given = schemaForm(one.input_schema);
    } else {
      const text = h("textarea", { rows: 4, required: true, placeholder: "What it is asked" });
      text.addEventListener(
        "keydown",
        (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.form.requestSubmit(),
      );
      this.given = { element: field("Input", text, "Ctrl + Enter starts it."), value: () => text.value };
    }
    this.input.replaceChildren(this.given.element);
    this.send.disabled = false;
  }

  async submit(event) {
    event.preventDefault();
    this.problem(null);
    this.send.disabled = true;
    try {
      const what = this.asked();
      const run = await startRun(what);
      if (what.on_disconnect === "cancel") attended.add(run.run_id);
      location.hash = `#/runs/${encodeURIComponent(run.run_id)}`;
    } catch (error) {
      this.problem(error);
    }
    this.send.disabled = false;
  }

  asked() {
    const what = { [this.chosen.kind]: this.chosen.id, input: this.given.value() };
    if (this.timeout.value !== "") what.timeout = Number(this.timeout.value);
    if (this.tokens.value !== "") what.budget = { tokens: Number(this.tokens.value) };
    if (this.session.value.trim()) what.session_id = this.session.value.trim();
    if (this.user.value.trim()) what.user_id = this.user.value.trim();
    if (this.leave.checked) what.on_disconnect = "cancel";
    return what;
  }

  problem(error) {
    this.trouble.hidden = !error;
    this.trouble.textContent = error ? error.message : "";
  }
}

customElements.define("desist-start", StartView);
