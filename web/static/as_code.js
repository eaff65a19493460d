// The request of the current chat as code to paste; the key comes from the environment.

// `body` is the request's body, and `path` is below /v1.
export function asCurl(path, body) {
  return [
    `curl -N ${location.origin}/v1/${path} \\`,
    `  -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' \\`,
    "  --data-binary @- <<'JSON'",
    JSON.stringify(body, null, 2), // no line of it equals the delimiter below
    "JSON",
    "",
  ].join("\n");
}

export function asPython(path, body) {
  const draws = path === "images/generations";
  const fields = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value)},`);
  return [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${location.origin}/v1")  # the key is read from OPENAI_API_KEY`,
    `answer = client.${draws ? "images.generate" : "chat.completions.create"}(`,
    ...fields,
    ")",
    ...(draws
      ? ["print(answer.data[0].url)"]
      : ["for chunk in answer:", "    if chunk.choices:", '        print(chunk.choices[0].delta.content or "", end="", flush=True)']),
    "",
  ].join("\n");
}

// JSON of strings, numbers and lists is valid Python.
function literal(value) {
  if (value === true) return "True";
  return JSON.stringify(value, null, 4).replaceAll("\n", "\n    ");
}
