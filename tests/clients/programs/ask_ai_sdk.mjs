// Vercel's AI SDK, with its provider for servers that are compatible with OpenAI's API.
import { AISDKError, generateObject, generateText, isStepCount, jsonSchema, streamText, tool } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";
import { FUNCTIONS, called, run } from "./job.mjs";

const TOOLS = Object.fromEntries(
  Object.entries(FUNCTIONS).map(([name, { description, parameters, run }]) => {
    return [name, tool({ description, inputSchema: jsonSchema(parameters), execute: run })];
  }),
);

function begin(job) {
  const { base_url: baseURL, key: apiKey } = job;
  const provider = createOpenAICompatible({ name: "bridge", baseURL, apiKey, supportsStructuredOutputs: true });
  return { talk, steps, streamed_steps: streamedSteps, object }[job.task](provider(job.model));
}

function talk(model) {
  const messages = [];

  return async function* (text, picture) {
    const parts = [{ type: "text", text }, { type: "image", image: picture }];
    messages.push({ role: "user", content: picture ? parts : text });
    const answer = streamText({ model, messages, maxRetries: 0, onError() {} });
    for await (const part of answer.fullStream) {
      if (part.type === "text-delta") yield part.text;
      if (part.type === "error") throw part.error;
    }
    messages.push(...(await answer.response).messages);
  };
}

function withTools(generate) {
  const messages = [];

  return async function* (text) {
    messages.push({ role: "user", content: text });
    const answer = generate({ messages, tools: TOOLS, stopWhen: isStepCount(5), maxRetries: 0 });
    for (const step of await (await answer).steps) {
      for (const { toolName, input } of step.toolCalls) yield called(toolName, input);
    }
    yield await (await answer).text;
    for (const step of await (await answer).steps) messages.push(...step.response.messages);
  };
}

const steps = (model) => withTools((asked) => generateText({ model, ...asked }));
const streamedSteps = (model) => withTools((asked) => streamText({ model, ...asked, onError() {} }));

function object(model) {
  return async function* (prompt) {
    const schema = z.object({ name: z.string(), legs: z.number().int() });
    const answer = await generateObject({ model, schema, prompt, maxRetries: 0 });
    yield JSON.stringify(answer.object);
  };
}

await run(begin, AISDKError.isInstance);
