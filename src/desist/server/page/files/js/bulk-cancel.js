// Stopping many runs: the server counts first, and the button says that number.

import { cancelRuns } from "./api.js";
import { field, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { likes } from "./local-storage.js";
import { many } from "./format.js";

/**
 * Open the dialog: for the runs with these ids, or (null) for those that filters name; `wanted` is the filter at first.
 *
 * `served` promises what there is to filter by; `done(words)` is called when the runs were told to stop.
 */
export async function openBulk({ ids, wanted = "", served, done }) {
  const which = h("select", { onchange: count_ }, h("option", { value: "" }, "all workflows and agents"));
  if (!ids)
    for (const one of await served) which.append(h("option", { value: `${one.kind}/${one.id}` }, one.name ?? one.id));
  which.value = wanted;
  const older = h("input", {
    type: "number",
    min: "0",
    step: "any",
    inputMode: "decimal",
    placeholder: "any age",
    oninput: count_,
  });
  const user = h("input", { type: "text", maxLength: 200, placeholder: "anybody", oninput: count_ });
  const reason = h("input", { type: "text", maxLength: 1000, placeholder: "Why, in your own words" });
  const counted = h("p", { class: "counted", role: "status" }, "Counting…");
  const stop = h("button", { type: "submit", class: "stop", disabled: true }, icon("stop"), "Stop");
  let latest = null;

  function asked() {
    if (ids) return { run_ids: ids };
    const [kind, ...id] = which.value.split("/");
    const filters = kind ? { [kind]: id.join("/") } : {};
    if (older.value !== "") filters.older_than = Number(older.value);
    if (user.value.trim()) filters.user_id = user.value.trim();
    return filters;
  }

  async function count_() {
    const mine = (latest = Symbol("count"));
    stop.disabled = true;
    try {
      const found = await cancelRuns({ ...asked(), dry_run: true });
      if (mine !== latest) return;
      counted.textContent = words(found.count, ids?.length);
      stop.lastChild.textContent = `Stop ${many(found.count, "run")}`;
      stop.disabled = found.count === 0;
    } catch (error) {
      if (mine === latest) counted.textContent = error.message;
    }
  }

  const { close } = openDialog({
    title: ids ? "Stop the chosen runs" : "Stop many runs",
    body: [
      ids ? null : field("Runs of", which),
      ids ? null : h("div", { class: "pair" }, field("Older than, in seconds", older), field("Of the user", user)),
      counted,
      field("Reason", reason),
    ],
    actions: stop,
    submit: async () => {
      const made = await cancelRuns({
        ...asked(),
        reason: reason.value.trim() || undefined,
        by: likes.get().by || undefined,
      });
      done(`${many(made.count, "run")} told to stop.`);
      close();
    },
  });
  count_();
  reason.focus();
}

function words(count, chosen) {
  const said = count ? `The server would stop ${many(count, "run")}.` : "The server would stop nothing.";
  const rest = (chosen ?? count) - count;
  return rest > 0
    ? `${said} ${many(rest, "of them has", "of them have")} ended meanwhile, or isn't running in this process.`
    : said;
}
