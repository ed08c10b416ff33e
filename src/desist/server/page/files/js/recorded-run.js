// A run as its record tells it: for runs whose events aren't kept any more, and for steps taken over from another run.

import { cutWords } from "./format.js";

/** Show what a record says of a run whose events aren't there. `whole` is what the server knows of it. */
export function showRecord(model, whole) {
  const { output } = whole;
  if (!output || model.roots.length > 1 || model.root?.children.length) return;
  const start = whole.created_at;
  model.roots = [];
  const root = model.begin("record", whole.kind, whole.name ?? whole.id ?? whole.kind, { event_at: start });
  Object.assign(root, { runId: whole.run_id, said: { content: output.content, error: output.error } });
  if (output.step_results) recorded(model, output.step_results, root, start);
  for (const tool of output.tools ?? []) recordedTool(model, tool, root);
  model.end("record", whole.status, { event_at: start + (whole.duration ?? Math.max(0, model.last - start)) });
  if (output.content !== undefined)
    model.texts.whole({ key: whole.run_id, name: root.name }, output.content, cutWords(whole.status, output.finish_reason));
}

function recorded(model, steps, above, start, status) {
  for (const made of steps) {
    const key = `record ${made.step_id} ${model.shape}`;
    const kind = (made.step_type ?? "step").toLowerCase();
    const span = model.begin(
      key,
      kind === "function" ? "step" : kind,
      made.step_name ?? "step",
      { event_at: start },
      above,
    );
    span.said = { content: made.content, error: made.error };
    recorded(model, made.steps ?? [], span, start, status);
    const ended = status ?? (made.cancelled ? "CANCELLED" : made.success === false ? "ERROR" : "COMPLETED");
    model.end(key, ended, { event_at: status ? start : start + (made.duration ?? 0) });
    if (kind !== "parallel" && above.kind !== "parallel" && !status) start += made.duration ?? 0;
  }
}

function recordedTool(model, tool, above) {
  const start = tool.started_at ?? tool.created_at;
  const span = model.begin(`record ${tool.tool_call_id}`, "tool", tool.tool_name ?? "tool", { event_at: start }, above);
  const status = tool.abandoned
    ? "ABANDONED"
    : tool.cancelled
      ? "CANCELLED"
      : tool.tool_call_error
        ? "ERROR"
        : "COMPLETED";
  model.end(span.key, status, { event_at: tool.ended_at ?? start });
  span.said = { tool };
  model.tools.push(span);
}

/** Show the steps that a run took over from the one it goes on with. */
export function showKept(model, steps) {
  if (!model.root || model.root.kept) return;
  model.root.kept = true;
  const told = model.root.children.splice(0);
  recorded(model, steps, model.root, model.root.start, "KEPT");
  model.root.children.push(...told);
  model.shape++;
}
