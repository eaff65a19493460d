// A streamed chat with one model, kept in this page only.

import { AnswerView, make } from "./answer_view.js";
import { followEnd } from "./reading.js";
import { events, post, Refusal } from "./streaming.js";

const form = document.getElementById("say");
if (form) {
  const [talk, text, model, file, send, stop, newChat, pictures, trouble] = [
    "talk", "text", "model", "file", "send", "stop", "new-chat", "pictures", "trouble",
  ].map((id) => document.getElementById(id));
  const { csrf, maxBytes, maxPictures, maxMarkdown } = form.dataset;
  const goToEnd = followEnd(talk, document.getElementById("newest"));
  let turns = []; // of this chat: { said, pictures, question, answer }
  let added = []; // pictures for the next message: { name, url }
  let running = null; // AbortController of the running answer

  const chosen = () => model.selectedOptions[0];
  const can = (trait) => chosen().dataset.traits.split(" ").includes(trait);

  const showAttach = () => {
    const sees = can("sees") && !can("draws");
    document.getElementById("attach").hidden = !sees;
    file.disabled = !sees;
    if (!sees) setAdded([]);
  };
  model.addEventListener("change", showAttach);

  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  file.addEventListener("change", async () => {
    for (const each of file.files) {
      if (each.size > Number(maxBytes)) complain([`${each.name} is larger than ${maxBytes} bytes.`]);
      else if (added.length >= Number(maxPictures)) complain([`At most ${maxPictures} pictures.`]);
      else added.push({ name: each.name, url: await read(each) });
    }
    file.value = "";
    setAdded(added);
  });

  newChat.addEventListener("click", () => {
    running?.abort();
    turns = [];
    talk.replaceChildren();
    newChat.hidden = true;
    complain([]);
    text.focus();
  });
  stop.addEventListener("click", () => running?.abort());

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (!said || running) return;
    const turn = { said, pictures: added, question: question(said, added), answer: null };
    text.value = "";
    setAdded([]);
    if (await answer(turn)) return;
    turn.question.remove(); // no answer: put the message back, to be edited and sent again
    text.value = said;
    setAdded(turn.pictures);
  });

  // Ask for the answer to a turn, the last one. Returns whether there is one, or a part of one.
  async function answer(turn) {
    const chat = turns; // a new one may begin meanwhile
    const view = new AnswerView(model.value, render);
    talk.append(view.element);
    goToEnd();
    complain([]);
    running = new AbortController();
    newChat.hidden = false;
    send.disabled = true;
    stop.hidden = false;
    let refusal = null;
    try {
      if (can("draws")) await draw(turn, view);
      else await stream([...history(chat), userMessage(turn)], view);
    } catch (error) {
      if (error.name === "AbortError") await view.end("stopped", "Stopped.");
      else refusal = error;
    }
    running = null;
    send.disabled = false;
    stop.hidden = true;
    text.focus({ preventScroll: true });
    if (view.isEmpty) view.element.remove();
    else if (refusal) await view.breakOff(told(refusal));
    if (refusal && view.isEmpty) complain(told(refusal));
    if (view.isEmpty) return false;
    turn.answer = view;
    if (refusal) {
      const again = view.addButton("Try again", () => {
        if (running) return;
        chat.splice(chat.indexOf(turn), 1);
        talk.append(turn.question);
        view.element.remove();
        answer(turn);
      });
      again.setAttribute("aria-label", "Ask for this answer again");
    }
    chat.push(turn);
    return true;
  }

  async function stream(messages, view) {
    const began = performance.now();
    const body = { model: view.model, messages, stream: true, stream_options: { include_usage: true } };
    const response = await post("/dashboard/playground/chat", body, csrf, running.signal);
    let first = 0;
    let usage = null;
    for await (const event of events(response)) {
      usage = event.usage ?? usage;
      const delta = event.choices?.[0]?.delta ?? {};
      if (delta.reasoning_content) view.think(delta.reasoning_content);
      if (delta.content) view.write(delta.content);
      if (delta.annotations) view.cite(delta.annotations);
      if (!first && (delta.content || delta.reasoning_content)) first = performance.now() - began;
    }
    const parts = [view.model, `first token ${seconds(first)}`, `${seconds(performance.now() - began)} in all`, `about ${usage?.completion_tokens ?? 0} tokens`];
    await view.end("whole", parts.join(" · "));
  }

  async function draw(turn, view) {
    const began = performance.now();
    const body = { model: view.model, prompt: turn.said, response_format: "b64_json" };
    const response = await post("/dashboard/playground/draw", body, csrf, running.signal);
    for (const { b64_json } of (await response.json()).data) view.draw(`data:image/png;base64,${b64_json}`);
    await view.end("whole", `${view.model} · ${seconds(performance.now() - began)}`);
  }

  // The messages so far, in the API's format: neither answers that broke off nor those that are pictures only.
  function history(chat) {
    return chat
      .filter(({ answer }) => answer.state !== "broken" && answer.text)
      .flatMap((turn) => [userMessage(turn), { role: "assistant", content: turn.answer.text }]);
  }

  function userMessage({ said, pictures }) {
    const parts = pictures.map(({ url }) => ({ type: "image_url", image_url: { url } }));
    return { role: "user", content: parts.length ? [{ type: "text", text: said }, ...parts] : said };
  }

  // HTML of a text in Markdown, or null if it is to be shown as it is.
  async function render(markdown) {
    if (markdown.length > Number(maxMarkdown)) return null;
    try {
      return await (await post("/dashboard/playground/markdown", markdown, csrf)).text();
    } catch {
      return null;
    }
  }

  function question(said, urls) {
    document.getElementById("nothing")?.remove();
    const article = make("article", { className: "user" });
    article.setAttribute("aria-label", "You");
    article.append(make("div", { className: "said plain", textContent: said }));
    article.append(...urls.map(({ url }) => make("img", { src: url, alt: "Your picture" })));
    talk.append(article);
    return article;
  }

  // Nodes that say what went wrong, and where to mend it.
  function told(error) {
    const nodes = error.message.split("`").map((part, place) => (place % 2 ? make("code", { textContent: part }) : part));
    const accounts = error instanceof Refusal && form.dataset.accounts.split(" ").includes(error.reason);
    return accounts ? [...nodes, " ", make("a", { href: "/dashboard/accounts", textContent: "Open Accounts" })] : nodes;
  }

  function setAdded(pictureList) {
    added = pictureList;
    pictures.replaceChildren(...added.map(({ url, name }) => make("img", { src: url, alt: name })));
    pictures.hidden = !added.length;
  }

  function complain(nodes) {
    trouble.replaceChildren(...nodes);
    trouble.hidden = !nodes.length;
  }

  showAttach();
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

function read(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
