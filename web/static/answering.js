// The answers to one request, of one model or of several side by side; each is written into its view as it arrives.

import { modelNamed } from "./model_picker.js";
import { events, post, Refusal } from "./streaming.js";

// Ask the models of `views` for answers to `messages`, in one request. `refused(view, refusal)` is called if one of several
// answers fails while the others continue. Throws a Refusal or an AbortError if the whole request ends.
export async function streamInto(views, messages, { csrf, signal, refused }) {
  const began = performance.now();
  const model = views.map((view) => view.model).join("+");
  const body = { model, messages, stream: true, stream_options: { include_usage: true } };
  const response = await post("/dashboard/playground/chat", body, csrf, signal);
  const ignored = response.headers.get("x-bridge-ignored");
  const answers = views.map((view) => ({ view, first: 0, whole: 0, usage: null }));
  const running = new Set(answers);
  const endings = []; // promises: the last rendering of one text must not delay the others
  for await (const event of events(response)) {
    for (const { index, delta, finish_reason: finish, error, usage } of event.choices ?? []) {
      const answer = answers[index];
      if (!running.has(answer)) continue;
      const { view } = answer;
      if (delta.reasoning_content) view.think(delta.reasoning_content);
      if (delta.content) view.write(delta.content);
      if (delta.annotations) view.cite(delta.annotations);
      answer.whole = performance.now() - began;
      if (!answer.first && (delta.content || delta.reasoning_content)) answer.first = answer.whole;
      if (!finish || views.length === 1) continue;
      running.delete(answer);
      if (error) endings.push(refused(view, new Refusal(error.message, error.reason)));
      else endings.push(end({ ...answer, usage }, hasIgnored(view) ? ignored : null));
    }
    if (views.length === 1 && event.usage) answers[0].usage = event.usage;
  }
  if (views.length === 1) await end({ ...answers[0], whole: performance.now() - began }, ignored);
  else await Promise.all(endings);
  if (views.length > 1 && running.size) throw new Refusal("The answer broke off.");
}

// Of what is sent, a model may ignore only pictures; the header does not say which of several models did.
function hasIgnored({ model }) {
  return !modelNamed(model)?.traits.includes("sees");
}

function end({ view, first, whole, usage }, ignored) {
  const parts = [
    view.model,
    `first token ${seconds(first)}`,
    `${seconds(whole)} in total`,
    `about ${usage?.completion_tokens ?? 0} tokens`,
    ...(ignored ? [`ignored: ${ignored}`] : []),
  ];
  return view.end("whole", parts.join(" · "));
}

// As everywhere in the dashboard: milliseconds below a second, above that one decimal, then none.
export function seconds(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(milliseconds < 10000 ? 1 : 0)} s`;
}
