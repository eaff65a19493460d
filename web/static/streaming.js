// Calls to the daemon, as an API client makes them.

// Why an answer failed or broke off; `reason` is the bridge's word of diagnosis, and `status` that of HTTP, if there is one.
export class Refusal extends Error {
  constructor(message, reason = null, status = null) {
    super(message);
    this.reason = reason;
    this.status = status;
  }
}

// POST a text, form fields (URLSearchParams), or JSON.
export async function post(path, body, csrf, signal) {
  const types = { string: "text/plain", URLSearchParams: "application/x-www-form-urlencoded" };
  const type = types[typeof body] ?? types[body.constructor.name];
  const response = await connected(fetch(path, {
    method: "POST",
    headers: { "Content-Type": type ?? "application/json", "X-CSRF-Token": csrf },
    body: type ? body : JSON.stringify(body),
    signal,
  }));
  if (!response.ok) throw new Refusal(await response.text(), response.headers.get("x-bridge-reason"), response.status);
  return response;
}

// Yields the JSON of each `data:` line until `[DONE]`; throws if the stream ends without it, or contains an error.
export async function* events(response) {
  let rest = "";
  for await (const piece of pieces(response.body.pipeThrough(new TextDecoderStream()))) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "data: [DONE]") return;
      if (!line.startsWith("data: ")) continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refusal(event.error.message, event.error.reason);
      yield event;
    }
  }
  throw new Refusal("The answer broke off.");
}

async function* pieces(stream) {
  const reader = stream.getReader();
  for (let read = await connected(reader.read()); !read.done; read = await connected(reader.read())) yield read.value;
}

// A connection that failed, of which each browser has words of its own.
async function connected(promise) {
  try {
    return await promise;
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal("No connection to the bridge.");
  }
}
