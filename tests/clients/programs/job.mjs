// The counterpart of job.py for Node.js programs: reads their jobs, and prints the results.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

console.log = console.error; // whatever the client prints is not an answer

// Runs the conversations that the jobs on standard input describe. `begin(job)` gives `say(text, picture)`, an async
// generator of an answer's pieces; `isTheirs(error)` says whether the client may raise that error of a request.
export async function run(begin, isTheirs) {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await converse(JSON.parse(line), begin, isTheirs)) + "\n");
  }
}

async function converse(job, begin, isTheirs) {
  const answers = [];
  try {
    const say = begin(job);
    let picture = job.picture && `data:image/png;base64,${readFileSync(job.picture).toString("base64")}`;
    for (const turn of job.turns) {
      const pieces = [];
      answers.push(pieces);
      for await (const piece of say(turn, picture)) pieces.push(piece);
      picture = null;
    }
  } catch (error) {
    if (!isTheirs(error)) throw error;
    return { answers, error: { type: error.constructor.name, message: error.message } };
  }
  return { answers, error: null };
}

// Two functions that a model may call, by name: the description, the schema of the arguments, and the implementation.
export const FUNCTIONS = {
  get_weather: {
    description: "Say how the weather will be.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "integer" } },
      required: ["city", "days"],
      additionalProperties: false,
    },
    run: ({ city, days }) => `${days} days of rain in ${city}`,
  },
  now: {
    description: "Say what time it is.",
    parameters: { type: "object", properties: {}, additionalProperties: false },
    run: () => "noon",
  },
};

// A custom tool of the Responses API, whose input is a text that follows a grammar.
export const PATCH = {
  type: "custom",
  name: "apply_patch",
  description: "Change a file.",
  format: { type: "grammar", syntax: "lark", definition: 'start: "*** Begin Patch" /(.|\n)+/' },
};

// A tool call in the form that the test expects as a piece of an answer.
export const called = (name, given) => JSON.stringify([name, given]);
