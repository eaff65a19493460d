// Vercel's AI SDK, with its provider for servers that are compatible with OpenAI's API.
import { AISDKError, streamText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { run } from "./job.mjs";

function begin(job) {
  const provider = createOpenAICompatible({ name: "bridge", baseURL: job.base_url, apiKey: job.key });
  const messages = [];

  return async function* (text, picture) {
    const parts = [{ type: "text", text }, { type: "image", image: picture }];
    messages.push({ role: "user", content: picture ? parts : text });
    const answer = streamText({ model: provider(job.model), messages, maxRetries: 0, onError() {} });
    for await (const part of answer.fullStream) {
      if (part.type === "text-delta") yield part.text;
      if (part.type === "error") throw part.error;
    }
    messages.push(...(await answer.response).messages);
  };
}

await run(begin, AISDKError.isInstance);
