// The Responses API, called with the `openai` package of Node.js.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { FUNCTIONS, PATCH, called, run } from "./job.mjs";

// The SDK returns a stream's failed response like any other.
class Failed extends OpenAI.OpenAIError {}

const TOOLS = Object.entries(FUNCTIONS).map(([name, { description, parameters }]) => {
  return { type: "function", name, description, parameters, strict: true };
});

function begin({ base_url: baseURL, key: apiKey, model, task }) {
  const { responses } = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const [way, what] = task.split(" ");
  const conversation = { talk, tools: calling(TOOLS), custom: calling([PATCH]), parse, stored }[what];
  return conversation(responses, model, way);
}

// The ways to send a request; each yields the pieces of the text, and returns the response.
const WAYS = {
  create: async function* (responses, asked) {
    const response = await responses.create(asked);
    yield response.output_text;
    return response;
  },
  stream: async function* (responses, asked) {
    const stream = responses.stream(asked);
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") yield event.delta;
      if (event.type === "response.failed") throw new Failed(event.response.error.message);
    }
    return stream.finalResponse();
  },
  events: async function* (responses, asked) {
    const output = []; // as Codex has it: of what has ended, and of nothing else
    for await (const event of await responses.create({ ...asked, stream: true })) {
      if (event.type === "response.output_text.delta") yield event.delta;
      if (event.type === "response.output_item.done") output.push(event.item);
      if (event.type === "response.failed") throw new Failed(event.response.error.message);
      if (event.type === "response.completed") return { ...event.response, output };
    }
    throw new Failed("the stream has no end");
  },
};

function talk(responses, model, way) {
  const history = [];
  let previous_response_id; // in a stream the response before is named, otherwise the history is sent again

  return async function* (text, picture) {
    const parts = [{ type: "input_text", text }, { type: "input_image", image_url: picture, detail: "auto" }];
    history.push({ role: "user", content: picture ? parts : text });
    const asked = way === "stream" ? { input: history.splice(0), previous_response_id } : { input: history };
    const response = yield* WAYS[way](responses, { model, ...asked });
    history.push(...(way === "stream" ? [] : response.output));
    previous_response_id = response.id;
  };
}

const calling = (tools) => (responses, model, way) => {
  const history = [];
  let previous_response_id;

  return async function* (text) {
    history.push({ role: "user", content: text });
    for (;;) {
      const named = way === "create" ? { input: history.splice(0), previous_response_id } : { input: history };
      const store = way === "create";
      const { output, id } = await quietly(WAYS[way](responses, { model, tools, store, ...named }));
      previous_response_id = id;
      const calls = output.filter(({ type }) => type.endsWith("_call"));
      if (way !== "create") history.push(...output);
      for (const { type, call_id, name, arguments: given, input } of calls) {
        const value = type === "custom_tool_call" ? input : JSON.parse(given);
        yield called(name, value);
        const result = type === "custom_tool_call" ? "Done." : FUNCTIONS[name].run(value);
        history.push({ type: `${type}_output`, call_id, output: result });
      }
      if (calls.length === 0) {
        yield output.flatMap(({ content }) => content ?? []).map(({ text }) => text).join("");
        return;
      }
    }
  };
};

// The response that one of these ways returns, without its pieces.
async function quietly(asking) {
  for (;;) {
    const { done, value } = await asking.next();
    if (done) return value;
  }
}

function parse(responses, model, way) {
  const format = zodTextFormat(z.object({ name: z.string(), legs: z.number().int() }), "animal");

  return async function* (input) {
    const asked = { model, input, text: { format } };
    const response = await (way === "create" ? responses.parse(asked) : responses.stream(asked).finalResponse());
    yield JSON.stringify(response.output_parsed);
  };
}

// A response and its input can be retrieved until it is deleted.
function stored(responses, model, way) {
  return async function* (input) {
    const made = await quietly(WAYS[way](responses, { model, input }));
    const found = await responses.retrieve(made.id);
    yield found.output_text;
    for await (const item of responses.inputItems.list(made.id)) yield item.content[0].text;
    await responses.delete(made.id);
    const theName = (error) => error.constructor.name;
    yield await responses.retrieve(made.id).catch(theName);
    yield await responses.create({ model, input, previous_response_id: made.id }).catch(theName);
    yield String((await responses.inputTokens.count({ model, input })).input_tokens === made.usage.input_tokens);
  };
}

await run(begin, (error) => error instanceof OpenAI.OpenAIError);
