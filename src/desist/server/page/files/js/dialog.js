// Dialogs: the browser's own, so that focus stays inside and Escape closes them.

import { h } from "./dom.js";
import { icon } from "./icons.js";

/**
 * Open a dialog and return { dialog, form, close, problem }.
 *
 * `submit()` is called when its form is sent; what it raises is shown. The dialog is gone once it is closed.
 */
export function openDialog({ title, kind = "", body, actions, submit, closed }) {
  const words = h("p", { class: "problem", role: "alert", hidden: true });
  const form = h(
    "form",
    { novalidate: false, onsubmit: (event) => send(event) },
    h(
      "header",
      {},
      h("h2", { id: "dialog-title" }, title),
      h(
        "button",
        { type: "button", class: "quiet icon", "aria-label": "Close", onclick: () => dialog.close() },
        icon("close"),
      ),
    ),
    h("div", { class: "inside" }, body),
    words,
    h("footer", {}, actions),
  );
  const dialog = h("dialog", { class: kind, "aria-labelledby": "dialog-title" }, form);

  function problem(error) {
    words.hidden = !error;
    words.textContent = error ? error.message : "";
  }

  async function send(event) {
    event.preventDefault();
    const button = event.submitter ?? form.querySelector("[type=submit]");
    problem(null);
    if (button) button.disabled = true;
    try {
      await submit();
    } catch (error) {
      problem(error);
    } finally {
      if (button) button.disabled = false;
    }
  }

  dialog.addEventListener("close", () => {
    dialog.remove();
    closed?.();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  form.querySelector(".inside :is(input, textarea, select)")?.focus(); // not the button that closes it
  return { dialog, form, close: () => dialog.close(), problem };
}

/** Return a field with its label, and words below it. */
export function field(label, control, hint = "") {
  const id = control.id || `field-${++fields}`;
  control.id = id;
  const under = hint ? h("span", { class: "hint", id: `${id}-hint` }, hint) : null;
  if (under) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, under);
}

let fields = 0;
