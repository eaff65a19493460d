// Calls of the daemon, as a client of the API makes them.

// Why an answer did not come, or broke off; `reason` is the bridge's word for it, where there is one.
export class Refusal extends Error {
  constructor(message, reason = null) {
    super(message);
    this.reason = reason;
  }
}

export async function post(path, body, csrf, signal) {
  const json = typeof body !== "string";
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": json ? "application/json" : "text/plain", "X-CSRF-Token": csrf },
    body: json ? JSON.stringify(body) : body,
    signal,
  });
  if (!response.ok) throw new Refusal(await response.text(), response.headers.get("x-bridge-reason"));
  return response;
}

// Yields the JSON of each `data:` line until `[DONE]`; throws if the stream ends without it, or has an error.
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
  for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
}
