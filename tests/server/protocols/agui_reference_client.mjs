// Answers, a line of JSON for each line of JSON, with AG-UI's own client:
// {verify: [events]}: what its schema and its verifier say of a recorded stream, and the messages it makes of it.
// {run: url, abort: type}: runs an agent as a page would, leaving at the first event of a type; what it heard.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.argv[2] + "/");
const { HttpAgent, AbstractAgent, verifyEvents } = require("@ag-ui/client");
const { EventSchemas } = require("@ag-ui/core/schemas");
const { from, lastValueFrom, toArray } = require("rxjs");

class Recorded extends AbstractAgent {
  constructor(events) {
    super({});
    this.events = events;
  }
  run() {
    return from(this.events);
  }
}

async function verify(events) {
  for (const event of events) EventSchemas.parse(event);
  await lastValueFrom(from(events).pipe(verifyEvents(), toArray()));
  const agent = new Recorded(events);
  await agent.runAgent({ runId: events[0].runId });
  return { messages: agent.messages };
}

async function run({ run, abort, runId, text }) {
  const agent = new HttpAgent({ url: run, threadId: "thread-of-" + runId });
  agent.addMessage({ id: "asked", role: "user", content: text ?? "go" });
  const heard = [];
  const subscriber = {
    onEvent({ event }) {
      heard.push(event);
      if (event.type === abort) agent.abortRun();
    },
  };
  let failed = null;
  await agent.runAgent({ runId }, subscriber).catch((error) => (failed = String(error)));
  return { heard, failed, messages: agent.messages };
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = { error: null, ...(await (question.verify ? verify(question.verify) : run(question))) };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
