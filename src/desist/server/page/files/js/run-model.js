// A run as its events tell it: spans of work in a tree, text by speaker, tools, tokens. No elements in here.

import { cutWords } from "./format.js";
import { Texts } from "./text-buffer.js";

const ENDED = { Completed: "COMPLETED", Cancelled: "CANCELLED", Error: "ERROR" };
const CONTAINER = /^(Loop|Parallel|Condition|Router|Steps)Execution(Started|Completed)$/;
const USED = ["input_tokens", "output_tokens", "total_tokens", "reasoning_tokens", "cache_read_tokens"];

/** One piece of work: a run, a step, a request to a model, a call of a tool. */
class Span {
  constructor(kind, name, start, parent) {
    Object.assign(this, { kind, name, start, parent, end: null, status: "RUNNING", note: "", said: {}, children: [] });
    this.depth = parent ? parent.depth + 1 : 0;
    this.folded = false;
  }
}

export class RunModel {
  constructor(runId) {
    this.runId = runId;
    this.reset();
  }

  reset() {
    this.events = [];
    this.roots = [];
    this.open = new Map(); // what runs now, by key
    this.tools = [];
    this.texts = new Texts();
    this.used = { model_calls: 0 };
    this.record = null; // of its cancel
    this.last = 0;
    this.shape = 0; // changes when spans come
    this.ending = null; // the terminal event
  }

  /** Take events, in their order. */
  take(events) {
    for (const event of events) {
      this.events.push(event);
      this.last = Math.max(this.last, timeOf(event));
      this.apply(event);
    }
  }

  apply(event) {
    const name = event.event;
    const container = CONTAINER.exec(name);
    if (container) this.container(event, container[1].toLowerCase(), container[2] === "Started");
    else if (name in HANDLED) HANDLED[name](this, event);
  }

  // -- spans

  begin(key, kind, name, event, parent) {
    const span = new Span(kind, name, timeOf(event), parent ?? null);
    (parent ? parent.children : this.roots).push(span);
    this.open.set(key, span);
    span.key = key;
    this.shape++;
    return span;
  }

  end(key, status, event, at) {
    const span = this.open.get(key);
    if (!span) return null;
    this.open.delete(key);
    span.end = at ?? timeOf(event);
    span.status = status;
    for (const child of span.children) if (child.end === null) this.end(child.key, status, event);
    return span;
  }

  get root() {
    return this.roots[0] ?? null;
  }

  /** Return the span that something told by a run or step belongs under. */
  place(event) {
    const step = event.parent_step_id && this.open.get(`step ${event.parent_step_id}`);
    if (step) return this.open.get(`round ${event.parent_step_id}`) ?? step;
    return this.open.get(`run ${event.event_run_id ?? event.run_id}`) ?? this.root;
  }

  run(event, kind, name) {
    const runId = event.event_run_id ?? event.run_id;
    const step = event.event_run_id !== undefined && event.step_id && this.open.get(`step ${event.step_id}`);
    const above = event.event_run_id === undefined ? null : step || this.nested(runId) || this.root;
    const span = this.begin(`run ${runId}`, kind, name, event, above);
    span.runId = runId;
    return span;
  }

  nested() {
    // A workflow inside this one says no step of ours: it belongs to the step that was begun last and has nothing yet.
    return [...this.open.values()].reverse().find((span) => span.kind === "step" && !span.children.length);
  }

  runEnded(event, status) {
    const runId = event.event_run_id ?? event.run_id;
    const span = this.end(`run ${runId}`, status, event, event.cancel?.settled_at);
    if (span) span.said = { ...span.said, content: event.content, error: event.error, cancel: event.cancel };
    if (event.content !== undefined && (event.agent_id !== undefined || event.event_run_id === undefined)) {
      this.texts.whole(this.speaker(event), event.content, cutWords(status, event.finish_reason));
    }
    if (event.event_run_id !== undefined) return;
    this.ending = event;
    this.record = event.cancel ?? null;
    for (const key of [...this.open.keys()]) this.end(key, status, event);
    for (const root of this.roots) if (root.status === "RUNNING") Object.assign(root, { status, end: timeOf(event) });
  }

  step(event) {
    const span = this.begin(`step ${event.step_id}`, "step", event.step_name ?? "step", event, this.place(event));
    span.stepId = event.step_id;
  }

  stepEnded(event, status) {
    const made = event.step_response ?? event.step_output;
    const span = this.end(`step ${event.step_id}`, status, event);
    if (!span) return;
    if (made?.duration !== undefined && span.children.length === 0)
      span.start = Math.max(span.start, span.end - made.duration);
    span.said = { content: event.content ?? made?.content, error: event.error ?? made?.error, reason: event.reason };
  }

  container(event, kind, starts) {
    const key = `step ${event.step_id}`;
    if (starts) {
      const span = this.begin(key, kind, event.step_name ?? kind, event, this.place(event));
      span.note = noteOf(kind, event);
    } else {
      this.end(`round ${event.step_id}`, "COMPLETED", event);
      this.end(key, "COMPLETED", event);
    }
  }

  round(event) {
    this.end(`round ${event.step_id}`, "COMPLETED", event);
    const above = this.open.get(`step ${event.step_id}`);
    this.begin(`round ${event.step_id}`, "iteration", `round ${event.iteration}`, event, above);
  }

  // -- models and tools

  asked(event) {
    const key = `model ${event.event_run_id ?? event.run_id}`;
    this.begin(key, "model", event.model ?? "model", event, this.place({ ...event, parent_step_id: null }));
  }

  answered(event) {
    const span = this.end(`model ${event.event_run_id ?? event.run_id}`, "COMPLETED", event);
    this.used.model_calls++;
    for (const name of USED) this.used[name] = (this.used[name] ?? 0) + (event[name] ?? 0);
    if (!span) return;
    span.said = { used: event };
    span.note = [`${event.total_tokens ?? 0} tokens`, cutWords("", event.finish_reason)].filter(Boolean).join(", ");
  }

  called(event) {
    const tool = event.tool ?? {};
    const key = toolKey(event);
    const span = this.begin(
      key,
      "tool",
      tool.tool_name ?? "tool",
      event,
      this.place({ ...event, parent_step_id: null }),
    );
    if (tool.started_at) span.start = tool.started_at;
    span.said = { tool };
    this.tools.push(span);
  }

  returned(event, status) {
    let span = this.end(toolKey(event), status, event, event.tool?.ended_at);
    if (!span) {
      // It was closed by the end of something around it: this says how it really went.
      span = this.tools.findLast((one) => one.key === toolKey(event));
      if (!span) return;
      span.status = status;
    }
    if (event.tool?.abandoned) span.status = "ABANDONED";
    span.said = { tool: event.tool ?? span.said.tool, error: event.error, reason: event.reason };
  }

  // -- text

  speaker(event) {
    const runId = event.event_run_id ?? event.run_id;
    if (event.agent_id !== undefined)
      return { key: runId, name: event.agent_name || event.agent_id, step: event.step_name };
    return { key: event.step_id ? `step ${event.step_id}` : runId, name: event.step_name ?? event.workflow_name ?? "" };
  }

  text(event, reasoning = false) {
    const piece = reasoning ? event.reasoning_content : event.content;
    if (typeof piece === "string") this.texts.add(this.speaker(event), piece, reasoning);
  }

  stepText(event) {
    const made = event.step_output ?? {};
    if (made.step_name === undefined && typeof made.content === "string")
      this.texts.add(this.speaker(event), made.content);
  }

  // -- what isn't told by events

  /** Note runs of the tree that no event tells of: those that tools have started. */
  alive(runs, now) {
    const living = new Set();
    for (const run of runs) {
      living.add(run.run_id);
      if (run.parent_run_id === null || this.open.has(`run ${run.run_id}`) || this.hasRun(run.run_id)) continue;
      const above = this.open.get(`run ${run.parent_run_id}`) ?? this.root;
      const span = this.begin(`run ${run.run_id}`, run.kind, run.name, { event_at: now - run.age }, above);
      Object.assign(span, { runId: run.run_id, silent: true });
    }
    for (const [key, span] of this.open) {
      if (span.silent && !living.has(span.runId))
        this.end(key, this.ending || this.record ? "CANCELLED" : "COMPLETED", { event_at: now });
    }
  }

  hasRun(runId) {
    return [...this.walk()].some((span) => span.runId === runId);
  }

  *walk(spans = this.roots) {
    for (const span of spans) {
      yield span;
      yield* this.walk(span.children);
    }
  }

  /** Return the spans that are to be seen, a row each. */
  rows() {
    const found = [];
    const add = (spans) => {
      for (const span of spans) {
        found.push(span);
        if (!span.folded) add(span.children);
      }
    };
    add(this.roots);
    return found;
  }
}

/** Return when an event was told, in seconds since the epoch. */
export const timeOf = (event) => event.event_at ?? event.created_at ?? 0;

const toolKey = (event) => `tool ${event.event_run_id ?? event.run_id} ${event.tool?.tool_call_id}`;

function noteOf(kind, event) {
  if (kind === "parallel") return `${event.parallel_step_count ?? ""} branches`;
  if (kind === "loop") return event.max_iterations ? `at most ${event.max_iterations} rounds` : "";
  if (kind === "condition") return event.condition_result === false ? "no" : "yes";
  if (kind === "router") return (event.selected_steps ?? []).join(", ");
  return "";
}

const HANDLED = {
  WorkflowStarted: (run, event) => run.run(event, "workflow", event.workflow_name ?? "workflow"),
  RunStarted: (run, event) => run.run(event, "agent", event.agent_name || event.agent_id || "agent"),
  StepStarted: (run, event) => run.step(event),
  StepCompleted: (run, event) => run.stepEnded(event, "COMPLETED"),
  StepCancelled: (run, event) => run.stepEnded(event, "CANCELLED"),
  StepError: (run, event) => run.stepEnded(event, "ERROR"),
  StepOutput: (run, event) => run.stepText(event),
  LoopIterationStarted: (run, event) => run.round(event),
  LoopIterationCompleted: (run, event) => run.end(`round ${event.step_id}`, "COMPLETED", event),
  ModelRequestStarted: (run, event) => run.asked(event),
  ModelRequestCompleted: (run, event) => run.answered(event),
  ToolCallStarted: (run, event) => run.called(event),
  ToolCallCompleted: (run, event) => run.returned(event, "COMPLETED"),
  ToolCallError: (run, event) => run.returned(event, "ERROR"),
  ToolCallCancelled: (run, event) => run.returned(event, "CANCELLED"),
  RunContent: (run, event) => run.text(event),
  RunIntermediateContent: (run, event) => run.text(event),
  ReasoningContentDelta: (run, event) => run.text(event, true),
};
for (const [word, status] of Object.entries(ENDED)) {
  HANDLED[`Workflow${word}`] = (run, event) => run.runEnded(event, status);
  HANDLED[`Run${word}`] = (run, event) => run.runEnded(event, status);
}
