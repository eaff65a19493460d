// The playground: chats with one model, or with two side by side.

import { AnswerView, make } from "./answer_view.js";
import { seconds, streamInto } from "./answering.js";
import { asCurl, asPython } from "./as_code.js";
import * as store from "./chat_store.js";
import { ChatsMenu } from "./chats_menu.js";
import { copy } from "./copying.js";
import { messagesBefore, userMessage } from "./messages.js";
import { ModelPicker } from "./model_picker.js";
import { Pictures } from "./pictures.js";
import { followEnd } from "./reading.js";
import { post, Refusal } from "./streaming.js";
import { TurnView } from "./turn_view.js";

const form = document.getElementById("say");
if (form) start();

function start() {
  const byId = (id) => document.getElementById(id);
  const [talk, text, send, stop, newChat, trouble, compare, second, system, file, attach, editing] = [
    "talk", "text", "send", "stop", "new-chat", "trouble", "compare", "second", "system", "file", "attach", "editing",
  ].map(byId);
  const { csrf, maxMarkdown } = form.dataset;
  const nothing = byId("nothing");
  const goToEnd = followEnd(talk, byId("newest"));
  const pickers = ["model", "second-model"].map(
    (id) => new ModelPicker(byId(id), { recent: store.recentModels, changed: () => showChoices() }),
  );
  const pictures = new Pictures(byId("pictures"), form.dataset, {
    complain: (said) => complain([said]),
    refusal: () => (sees() ? "" : `${pickers[0].value} takes no pictures.`),
  });
  const menu = new ChatsMenu(byId("chats-menu"), { open, keep });
  let chat = emptyChat();
  let running = null; // the AbortControllers of the running requests
  let edited = null; // the turn whose message is being edited

  const columns = () => (second.hidden ? [0] : [0, 1]);
  const draws = (column) => pickers[column].model?.traits.includes("draws");
  const sees = () => columns().some((column) => pickers[column].model?.traits.includes("sees") && !draws(column));

  // --- asking ---

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (!said || running) return;
    const [present, replaced] = [chat, edited];
    if (edited) dropLast();
    const turn = new TurnView({ said, pictures: pictures.all }, actions);
    chat.turns.push(turn);
    talk.append(turn.element);
    nothing.remove();
    text.value = "";
    pictures.all = [];
    const refusals = await ask(turn, columns());
    if (!turn.isEmpty) return;
    drop(turn); // there is no answer: put the message back into the field
    if (replaced && chat === present) {
      chat.turns.push(replaced);
      talk.append(replaced.element);
      actions.edit(replaced);
      show();
    }
    text.value = said;
    pictures.all = turn.pictures;
    if (refusals.length) complain(refusals[0]);
  });

  const actions = {
    edit(turn) {
      if (running) return;
      edited = turn;
      text.value = turn.said;
      pictures.all = turn.pictures;
      editing.hidden = false;
      text.focus();
    },
    again(turn, column) {
      if (!running) ask(turn, [column]);
    },
    changed: () => keep(),
  };

  // Ask for answers to a turn in these columns. Returns the nodes to show if there was no answer at all.
  async function ask(turn, wanted) {
    const present = chat; // a new chat may begin meanwhile
    running = [];
    complain([]);
    show();
    const asked = wanted.map((column) => ({
      column,
      view: new AnswerView(pickers[column].value, render),
      before: turn.shownIn(column),
      messages: [...messagesBefore(turn, present, column), userMessage(turn)],
      refusal: null,
    }));
    [...asked].reverse().forEach(({ view }) => store.use(view.model)); // so that the first column's is the most recent
    const requests = areOne(asked) ? [asked] : asked.map((each) => [each]);
    await Promise.all(requests.map((each) => answer(turn, each)));
    running = null;
    show();
    text.focus({ preventScroll: true });
    if (!turn.isEmpty) keep(present);
    return asked.map(({ refusal }) => refusal).filter(Boolean);
  }

  // Whether one request (`a+b`) serves all of these columns: they must have the same history. Columns that continue with
  // their own answers have separate requests, and so do those of a model that is gone, for which the whole request would fail.
  function areOne(asked) {
    const histories = new Set(asked.map(({ messages }) => JSON.stringify(messages)));
    return histories.size === 1 && asked.every(({ column, view }) => {
      return pickers[column].model && !draws(column) && !view.model.includes("+");
    });
  }

  // Make one request, and show its result in its columns.
  async function answer(turn, asked) {
    const controller = new AbortController();
    const { signal } = controller;
    const [{ column, view, messages }] = asked;
    const views = asked.map((each) => each.view);
    const refused = (of, error) => {
      const each = asked.find((one) => one.view === of);
      each.refusal = told(error);
      return of.breakOff(each.refusal);
    };
    running.push(controller);
    for (const each of asked) turn.add(each.column, each.view);
    goToEnd();
    let failure = null;
    try {
      if (draws(column)) await draw(turn.said, view, signal);
      else await streamInto(views, messages, { csrf, signal, refused });
    } catch (error) {
      failure = error;
    }
    await Promise.all(asked.map((each) => conclude(turn, each, failure)));
  }

  // Show in a column how its answer ended; `failure` is what ended the answers that were still running.
  async function conclude(turn, asked, failure) {
    const { column, view, before } = asked;
    if (view.state === "running" && failure?.name === "AbortError") await view.end("stopped", "Stopped.");
    else if (view.state === "running") {
      asked.refusal = told(failure);
      if (!view.isEmpty || before || columns().length > 1) await view.breakOff(asked.refusal);
    }
    if (view.isEmpty && view.state !== "broken") turn.remove(column, view);
    else turn.refresh(column);
  }

  async function draw(prompt, view, signal) {
    const began = performance.now();
    const body = { model: view.model, prompt, response_format: "b64_json" };
    const response = await post("/dashboard/playground/draw", body, csrf, signal);
    for (const { b64_json } of (await response.json()).data) view.draw(`data:image/png;base64,${b64_json}`);
    await view.end("whole", `${view.model} · ${seconds(performance.now() - began)}`);
  }

  // The HTML of a text in Markdown, or null if it is to be shown as plain text.
  async function render(markdown) {
    if (markdown.length > Number(maxMarkdown)) return null;
    try {
      return await (await post("/dashboard/playground/markdown", markdown, csrf)).text();
    } catch {
      return null;
    }
  }

  // Nodes that say what went wrong, and where to fix it.
  function told(error) {
    const nodes = error.message.split("`").map((part, place) => (place % 2 ? make("code", { textContent: part }) : part));
    const accounts = error instanceof Refusal && form.dataset.accounts.split(" ").includes(error.reason);
    if (accounts) nodes.push(" ", make("a", { href: "/dashboard/accounts", textContent: "Open Accounts" }));
    if (error.status === 401) nodes.push(" ", make("a", { href: location.href, textContent: "Log in" }));
    return nodes;
  }

  // --- the message ---

  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector(".ask[open]")) return;
    if (running) stopAll();
    else if (edited) stopEditing();
  });
  stop.addEventListener("click", stopAll);
  byId("cancel-edit").addEventListener("click", stopEditing);

  file.addEventListener("change", async () => {
    await pictures.add(file.files);
    file.value = "";
  });
  text.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    pictures.add(event.clipboardData.files);
  });
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault(); // otherwise the browser would open the file in place of the page
      if (kind === "drop") pictures.add(event.dataTransfer.files);
    });
  }

  function stopAll() {
    running?.forEach((controller) => controller.abort());
  }

  function stopEditing() {
    edited = null;
    editing.hidden = true;
    text.value = "";
    pictures.all = [];
  }

  function dropLast() {
    drop(edited);
    edited = null;
    editing.hidden = true;
  }

  function drop(turn) {
    turn.element.remove();
    chat.turns = chat.turns.filter((other) => other !== turn);
    if (!chat.turns.length) talk.append(nothing);
    show();
  }

  function complain(nodes) {
    trouble.replaceChildren(...nodes);
    trouble.hidden = !nodes.length;
  }

  // --- models ---

  compare.addEventListener("click", () => {
    second.hidden = !second.hidden;
    showChoices();
  });
  for (const [place, id] of ["star", "second-star"].entries()) {
    byId(id).addEventListener("click", async () => {
      const { model } = pickers[place];
      if (!model) return;
      const body = new URLSearchParams({ [model.star ? "remove" : "add"]: model.name });
      try {
        await post("/dashboard/models/star", body, csrf);
        model.star = !model.star;
      } catch (error) {
        complain([error.message]);
      }
      showChoices();
    });
  }

  function showChoices() {
    compare.setAttribute("aria-pressed", String(!second.hidden));
    for (const [place, id] of ["star", "second-star"].entries()) {
      const star = Boolean(pickers[place].model?.star);
      byId(id).textContent = star ? "★" : "☆";
      byId(id).setAttribute("aria-pressed", String(star));
    }
    attach.hidden = !sees();
    file.disabled = !sees();
    if (!sees()) pictures.all = [];
  }

  // --- chats ---

  newChat.addEventListener("click", () => {
    open(emptyChat());
    store.close();
    text.focus();
  });
  system.addEventListener("input", () => {
    chat.system = system.value.trim();
    byId("system-shown").textContent = chat.system;
  });
  system.addEventListener("change", () => keep());
  byId("as-curl").addEventListener("click", ({ currentTarget }) => copy(currentTarget, asCurl(...request())));
  byId("as-python").addEventListener("click", ({ currentTarget }) => copy(currentTarget, asPython(...request())));

  function emptyChat() {
    return { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), system: "", turns: [] };
  }

  // Show a new chat or a saved one.
  function open(kept) {
    stopAll();
    if (edited) stopEditing();
    complain([]);
    chat = { ...kept, turns: kept.turns.map((turn) => TurnView.restored(turn, actions, render)) };
    talk.replaceChildren(...(chat.turns.length ? chat.turns.map(({ element }) => element) : [nothing]));
    system.value = byId("system-shown").textContent = chat.system;
    kept.models?.forEach((name, place) => (pickers[place].value = name));
    if (kept.models) second.hidden = kept.models.length < 2;
    menu.close();
    showChoices();
    show();
    goToEnd();
  }

  function keep(present = chat) {
    const { id, system: first, turns } = present;
    store.keep({ id, system: first, turns, used: Date.now(), models: columns().map((column) => pickers[column].value) });
  }

  // The path and body of the request for the chat's last message, or for the one that is being written.
  function request() {
    const said = text.value.trim();
    const last = chat.turns.at(-1);
    const turn = said || !last ? { said: said || "Hello!", pictures: pictures.all } : last;
    const model = pickers[0].value;
    if (draws(0)) return ["images/generations", { model, prompt: turn.said }];
    return ["chat/completions", { model, messages: [...messagesBefore(turn, chat, 0), userMessage(turn)], stream: true }];
  }

  function show() {
    newChat.hidden = !chat.turns.length;
    send.disabled = Boolean(running);
    stop.hidden = !running;
    form.classList.toggle("busy", Boolean(running));
  }

  const chosen = new URLSearchParams(location.search).get("model");
  const before = chosen ? null : store.openChat();
  if (before) open(before);
  else if (!chosen && store.recentModels()[0]) pickers[0].value = store.recentModels()[0];
  showChoices();
  text.value = store.draft();
  addEventListener("pagehide", () => store.keepDraft(text.value));
}
