// The Messages API, called with the `@anthropic-ai/sdk` package.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { jsonSchemaOutputFormat } from "@anthropic-ai/sdk/helpers/json-schema";
import { FUNCTIONS, called, run } from "./job.mjs";

const TOOLS = Object.entries(FUNCTIONS).map(([name, { description, parameters }]) => {
  return { name, description, input_schema: parameters };
});
const THINKING = { type: "enabled", budget_tokens: 1024 };

function begin({ base_url: url, key: apiKey, model, task }) {
  const client = new Anthropic({ baseURL: url.replace(/\/v1$/, ""), apiKey, maxRetries: 0 });
  const [way, what] = task.split(" ");
  return { talk, thinking: thinkingAloud, tools, runner, parse, models }[what](client, { model, max_tokens: 2000 }, way);
}

// The ways to send a request; each yields the pieces of reasoning and text, and returns the message.
const WAYS = {
  create: async function* ({ messages }, asked) {
    const message = await messages.create(asked);
    for (const { thinking, text } of message.content) if (thinking ?? text) yield thinking ?? text;
    return message;
  },
  stream: async function* ({ messages }, asked) {
    const stream = messages.stream(asked);
    const pieces = [];
    stream.on("thinking", (piece) => pieces.push(piece)).on("text", (piece) => pieces.push(piece));
    try {
      for await (const _ of stream) yield* pieces.splice(0);
    } finally {
      yield* pieces;
    }
    return stream.finalMessage();
  },
};

function conversation(client, asked, way) {
  const messages = [];

  return async function* (text, picture) {
    const source = { type: "base64", media_type: "image/png", data: picture?.split(",")[1] };
    const parts = [{ type: "text", text }, { type: "image", source }];
    messages.push({ role: "user", content: picture ? parts : text });
    const message = yield* WAYS[way](client, { ...asked, messages });
    messages.push({ role: "assistant", content: message.content });
    return message;
  };
}

const talk = conversation;

// Reasoning comes first, with a signature, and is sent back with the history.
function thinkingAloud(client, asked, way) {
  const say = conversation(client, { ...asked, thinking: THINKING }, way);

  return async function* (text) {
    const { content } = yield* say(text);
    yield JSON.stringify(content.map(({ type, thinking, text, signature }) => [type, thinking ?? text, Boolean(signature)]));
  };
}

function tools(client, asked, way) {
  const messages = [];

  return async function* (text) {
    messages.push({ role: "user", content: text });
    for (;;) {
      const { content, stop_reason } = await quietly(WAYS[way](client, { ...asked, tools: TOOLS, messages }));
      messages.push({ role: "assistant", content });
      const calls = content.filter(({ type }) => type === "tool_use");
      if ((stop_reason === "tool_use") !== (calls.length > 0)) yield `stopped by ${stop_reason}`;
      for (const { name, input } of calls) yield called(name, input);
      if (calls.length === 0) {
        yield content.map(({ text }) => text).join("");
        return;
      }
      messages.push({ role: "user", content: calls.map(result) });
    }
  };
}

// The message that one of these ways returns, without its pieces.
async function quietly(asking) {
  for (;;) {
    const { done, value } = await asking.next();
    if (done) return value;
  }
}

// The SDK's own loop of tool calls.
function runner(client, asked, way) {
  const messages = [];

  return async function* (text) {
    const own = Object.entries(FUNCTIONS).map(([name, { description, parameters: inputSchema, run }]) => {
      return betaTool({ name, description, inputSchema, run });
    });
    messages.push({ role: "user", content: text });
    const running = { ...asked, messages: [...messages], tools: own, stream: way === "stream" };
    for await (const turn of client.beta.messages.toolRunner(running)) {
      const { content } = way === "stream" ? await turn.finalMessage() : turn;
      messages.push({ role: "assistant", content });
      const calls = content.filter(({ type }) => type === "tool_use");
      for (const { name, input } of calls) yield called(name, input);
      if (calls.length === 0) yield content.map(({ text }) => text).join("");
      else messages.push({ role: "user", content: calls.map(result) });
    }
  };
}

const result = ({ id, name, input }) => {
  return { type: "tool_result", tool_use_id: id, content: FUNCTIONS[name].run(input) };
};

function parse({ messages }, asked, way) {
  const properties = { name: { type: "string" }, legs: { type: "integer" } };
  const schema = { type: "object", properties, required: ["name", "legs"], additionalProperties: false };
  const output_config = { format: jsonSchemaOutputFormat(schema) };

  return async function* (content) {
    const prepared = { ...asked, output_config, messages: [{ role: "user", content }] };
    const message = await (way === "create" ? messages.parse(prepared) : messages.stream(prepared).finalMessage());
    yield JSON.stringify(message.parsed_output);
  };
}

// The list of models, one model of it, and the number of tokens of a text.
function models(client, { model }) {
  return async function* (content) {
    const listed = [];
    for await (const { id } of client.models.list({ limit: 5 })) listed.push(id);
    yield JSON.stringify(listed);
    yield (await client.models.retrieve(model)).id;
    const messages = [{ role: "user", content }];
    const { input_tokens } = await client.messages.countTokens({ model, messages });
    const { usage } = await client.messages.create({ model, messages, max_tokens: 100 });
    yield String(usage.input_tokens === input_tokens);
  };
}

await run(begin, (error) => error instanceof Anthropic.AnthropicError);
