// The `openai` package of Node.js.
import OpenAI from "openai";
import { run } from "./job.mjs";

function begin(job) {
  const client = new OpenAI({ baseURL: job.base_url, apiKey: job.key, maxRetries: 0 });
  const messages = [];

  return async function* (text, picture) {
    const parts = [{ type: "text", text }, { type: "image_url", image_url: { url: picture } }];
    messages.push({ role: "user", content: picture ? parts : text });
    const stream = client.chat.completions.stream({ model: job.model, messages });
    for await (const chunk of stream) {
      const piece = chunk.choices[0]?.delta.content;
      if (piece) yield piece;
    }
    messages.push(await stream.finalMessage());
  };
}

await run(begin, (error) => error instanceof OpenAI.OpenAIError);
