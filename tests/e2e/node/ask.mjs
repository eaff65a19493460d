// Sends a request to a bridge with the `openai` package, and prints the result as one JSON document.
// node ask.mjs helper|stream|whole|models REQUEST, with OPENAI_BASE_URL and OPENAI_API_KEY in the environment
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });

const ways = {
  // The SDK assembles the chunks, and throws if the role or the finish reason is missing.
  async helper(request) {
    const deltas = [];
    const stream = client.chat.completions.stream(request).on("content", (delta) => deltas.push(delta));
    return { deltas, completion: await stream.finalChatCompletion() };
  },
  async stream(request) {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) chunks.push(chunk);
    return { chunks };
  },
  async whole(request) {
    return { completion: await client.chat.completions.create(request) };
  },
  async models() {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    return { models };
  },
};

const [way, request] = process.argv.slice(2);
const print = (value) => process.stdout.write(JSON.stringify(value));
try {
  print(await ways[way](JSON.parse(request)));
} catch (error) {
  if (!(error instanceof OpenAI.OpenAIError)) throw error;
  const { status, code, message } = error;
  print({ error: { name: error.constructor.name, status, code, message } });
}
