// Stopping one run: the button that stops at once, and the dialog with reason, grace, scope and what it would stop.

import { cancelRun, getLife } from "./api.js";
import { field, openDialog } from "./dialog.js";
import { every, h, say } from "./dom.js";
import { icon, statusIcon } from "./icons.js";
import { likes } from "./local-storage.js";
import { many, span, waits } from "./format.js";

/** Stop a run now. */
export const stopNow = (runId) => cancelRun(runId, { by: likes.get().by || undefined });

/** End the time for cleanup of a run that is being stopped. */
export const forceNow = (runId) => cancelRun(runId, { by: likes.get().by || undefined, force: true });

/**
 * Open the dialog. `part` is { runId, name } of a run inside this one, to stop only that; `stopped(receipt)` is called
 * when the request was accepted.
 */
export function openStop({ runId, name, part, stopped }) {
  const ended = new AbortController();
  const reason = h("input", { type: "text", maxLength: 1000, placeholder: "Why, in your own words" });
  const by = h("input", {
    type: "text",
    maxLength: 100,
    value: likes.get().by,
    placeholder: "Your name",
    autocomplete: "name",
  });
  const grace = h("input", {
    type: "number",
    min: "0",
    max: "86400",
    step: "any",
    inputMode: "decimal",
    placeholder: "as the run says",
  });
  const compensate = h("input", { type: "checkbox" });
  const scope = new Scope(runId, name, part);
  const preview = h("div", { class: "preview", "aria-live": "polite" }, "Looking what runs…");
  const look = () =>
    getLife(runId, ended.signal).then(
      (life) => {
        scope.offer(life.runs);
        show(preview, life, scope.runId);
      },
      () => {},
    );
  const { close } = openDialog({
    title: `Stop ${name}`,
    kind: "sheet-dialog",
    body: [
      preview,
      scope.element,
      field("Reason", reason),
      h(
        "div",
        { class: "pair" },
        field("By", by),
        field("Grace, in seconds", grace, "Time for cleanup; what still runs after it is abandoned."),
      ),
      h(
        "label",
        { class: "check" },
        compensate,
        h("span", {}, "Undo what had finished", h("span", { class: "hint" }, "runs the steps' compensations")),
      ),
    ],
    actions: h("button", { type: "submit", class: "stop" }, icon("stop"), "Stop now"),
    submit: async () => {
      const how = {
        reason: reason.value.trim() || undefined,
        by: by.value.trim() || undefined,
        compensate: compensate.checked,
      };
      if (grace.value !== "") how.grace = Number(grace.value);
      if (scope.runId !== runId) how.scope = "run";
      stopped(await cancelRun(scope.runId, how));
      close();
    },
    closed: () => ended.abort(),
  });
  scope.element.addEventListener("change", look);
  look();
  every(1000, look, ended.signal);
  reason.focus();
}

/** How much is stopped: everything, or one run inside of it. Hidden while there is nothing to choose from. */
class Scope {
  constructor(runId, name, part) {
    this.whole = runId;
    this.select = h("select", {}, h("option", { value: runId }, `All of ${name}`));
    if (part) this.add(part.runId, part.name);
    if (part) this.select.value = part.runId;
    this.element = field(
      "How much",
      this.select,
      "A part that is stopped takes what it stands in along, unless its step says otherwise.",
    );
    this.element.hidden = !part;
  }

  get runId() {
    return this.select.value;
  }

  add(runId, name) {
    this.select.append(h("option", { value: runId }, `Only ${name}, and what it started`));
  }

  offer(runs) {
    const known = new Set([...this.select.options].map((option) => option.value));
    for (const run of runs) if (!known.has(run.run_id)) this.add(run.run_id, run.name || run.kind);
    this.element.hidden = this.select.options.length < 2;
  }
}

/** Say what a stop of `runId` would stop. */
function show(preview, life, runId) {
  const runs = under(life.runs, runId);
  const top = runs.find((run) => run.run_id === runId);
  if (!top) {
    const words = life.runs.length
      ? "This part has ended."
      : "Nothing of it runs here: it has ended, or another process runs it.";
    return say(preview, words);
  }
  const children = runs.length - 1;
  const title = children
    ? `This stops it and ${many(children, "running child", "running children")}:`
    : "This stops it; it has no running children.";
  preview.replaceChildren(
    h("p", {}, title),
    h(
      "ul",
      {},
      runs.map((run) =>
        h(
          "li",
          {},
          statusIcon(run.status),
          h(
            "span",
            {},
            h("strong", {}, run.name || run.kind),
            " ",
            [...run.steps].pop() ?? "",
            h("span", { class: "dim" }, ` ${doing(run)}`),
          ),
        ),
      ),
    ),
  );
  return undefined;
}

const doing = (run) => waits([run]).join("; ") || `for ${span(run.age)}`;

function under(runs, runId) {
  const found = new Set([runId]);
  for (const run of runs) if (found.has(run.parent_run_id)) found.add(run.run_id); // the oldest first: parents come before
  return runs.filter((run) => found.has(run.run_id));
}
