// The `openai` package of Node.js.
import OpenAI from "openai";
import { FUNCTIONS, called, run } from "./job.mjs";

function begin(job) {
  const client = new OpenAI({ baseURL: job.base_url, apiKey: job.key, maxRetries: 0 });
  return { talk, runTools, stream }[job.task](client.chat.completions, job.model);
}

function talk(completions, model) {
  const messages = [];

  return async function* (text, picture) {
    const parts = [{ type: "text", text }, { type: "image_url", image_url: { url: picture } }];
    messages.push({ role: "user", content: picture ? parts : text });
    const stream = completions.stream({ model, messages });
    for await (const chunk of stream) {
      const piece = chunk.choices[0]?.delta.content;
      if (piece) yield piece;
    }
    messages.push(await stream.finalMessage());
  };
}

function runTools(completions, model) {
  const messages = [];

  return async function* (text) {
    const pieces = [];
    const tools = Object.entries(FUNCTIONS).map(([name, { description, parameters, run }]) => {
      const noted = (given) => (pieces.push(called(name, given)), run(given));
      return { type: "function", function: { name, description, parameters, parse: JSON.parse, function: noted } };
    });
    messages.push({ role: "user", content: text });
    const runner = completions.runTools({ model, messages: [...messages], tools, stream: true });
    const last = await runner.finalContent();
    yield* pieces;
    yield last;
    messages.splice(0, messages.length, ...runner.messages);
  };
}

function stream(completions, model) {
  const messages = [];
  const tools = Object.entries(FUNCTIONS).map(([name, { description, parameters }]) => {
    return { type: "function", function: { name, description, parameters } };
  });

  return async function* (text) {
    messages.push({ role: "user", content: text });
    for (;;) {
      const message = await completions.stream({ model, messages, tools }).finalMessage();
      messages.push(message);
      if (!message.tool_calls?.length) {
        yield message.content;
        return;
      }
      for (const { id, function: { name, arguments: given } } of message.tool_calls) {
        yield called(name, JSON.parse(given));
        messages.push({ role: "tool", tool_call_id: id, content: FUNCTIONS[name].run(JSON.parse(given)) });
      }
    }
  };
}

await run(begin, (error) => error instanceof OpenAI.OpenAIError);
