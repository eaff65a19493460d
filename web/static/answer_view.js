// An answer on the page: reasoning, text, sources, pictures, and how it ended.

import { copy } from "./copying.js";
import { RichText } from "./rich_text.js";

export class AnswerView {
  pictures = [];
  sources = new Map(); // title by URL
  state = "running"; // running, whole, stopped or broken
  note = "";
  thoughts = "";
  #text;
  #said;
  #thoughts = null;
  #sourceList = null;
  #foot;
  #tools;
  #others = [];
  #waiting;

  // `render` is as in RichText.
  constructor(model, render) {
    this.model = model;
    this.element = make("article", { className: "assistant" });
    this.element.setAttribute("aria-label", model);
    this.element.setAttribute("aria-busy", "true"); // screen readers read it once it is complete
    this.#said = make("div", { className: "said" });
    this.#tools = make("span", { className: "tools" });
    this.#foot = make("div", { className: "foot" });
    // For screen readers, a heading above those of the answer.
    this.element.append(make("h2", { className: "unseen", textContent: model }), this.#said, this.#foot);
    this.#text = new RichText(this.#said, render);
    this.#waiting = this.#wait();
  }

  // Restore an answer that `toJSON` wrote.
  static restored(kept, render) {
    const view = new AnswerView(kept.model, render);
    if (kept.thoughts) view.think(kept.thoughts);
    if (kept.text) view.write(kept.text);
    view.cite(kept.sources.map(([url, title]) => ({ url_citation: { url, title } })));
    kept.pictures.forEach((url) => view.draw(url));
    if (kept.state === "broken") view.breakOff([kept.note]);
    else view.end(kept.state, kept.note);
    return view;
  }

  toJSON() {
    const { model, text, thoughts, pictures, state, note } = this;
    return { model, text, thoughts, sources: [...this.sources], pictures, state, note };
  }

  get text() {
    return this.#text.text;
  }

  get isEmpty() {
    return !this.text && !this.pictures.length;
  }

  write(delta) {
    this.#begin();
    this.#text.add(delta);
  }

  think(piece) {
    this.#begin();
    if (!this.thoughts) {
      const details = make("details");
      details.append(make("summary", { textContent: "Thoughts" }), make("p"));
      this.#said.before(details);
      this.#thoughts = details.lastElementChild;
    }
    this.thoughts += piece;
    this.#thoughts.append(piece);
  }

  // Each URL is listed once, however many places cite it.
  cite(annotations) {
    for (const { url_citation: { url, title } } of annotations) {
      if (!/^https?:\/\//i.test(url) || this.sources.has(url)) continue;
      this.sources.set(url, title);
      if (!this.#sourceList) {
        this.#sourceList = make("ol", { className: "sources" });
        this.#sourceList.setAttribute("aria-label", "Sources");
        this.#said.after(this.#sourceList);
      }
      const link = make("a", { href: url, textContent: title || url, rel: "noopener noreferrer nofollow", target: "_blank" });
      const item = make("li");
      item.append(link);
      this.#sourceList.append(item);
    }
  }

  draw(url) {
    this.#begin();
    this.pictures.push(url);
    this.#foot.before(make("img", { src: url, alt: "A picture by the model" }));
  }

  // End the answer; `note` is what to say about it.
  async end(state, note) {
    this.#begin();
    this.state = state;
    this.note = note;
    await this.#text.end();
    this.element.removeAttribute("aria-busy");
    if (state !== "broken") this.#foot.append(make("p", { className: "hint", textContent: note }));
    if (this.text) {
      const button = makeButton("Copy", "Copy the answer as Markdown", () => copy(button, this.text));
      this.#tools.prepend(button);
    }
    this.#foot.append(this.#tools);
  }

  // Mark the answer as truncated; `trouble` is the list of nodes that say why.
  async breakOff(trouble) {
    const said = make("p", { role: "alert" });
    said.append(...trouble, " This answer is not part of the chat’s history.");
    this.#foot.append(said);
    this.element.classList.add("broken");
    await this.end("broken", trouble.map((node) => node.textContent ?? node).join(""));
  }

  // Put these buttons after the copy button.
  setTools(...buttons) {
    this.#others.forEach((button) => button.remove());
    this.#others = buttons;
    this.#tools.append(...buttons);
  }

  #wait() {
    const began = Date.now();
    const hint = make("p", { className: "hint", textContent: "Waiting…" });
    this.#foot.append(hint);
    const timer = setInterval(() => (hint.textContent = `Waiting… ${Math.round((Date.now() - began) / 1000)} s`), 1000);
    return () => {
      clearInterval(timer);
      hint.remove();
    };
  }

  #begin() {
    this.#waiting?.();
    this.#waiting = null;
  }
}

export function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

export function makeButton(text, label, act) {
  const button = make("button", { type: "button", className: "quiet", textContent: text });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  return button;
}
