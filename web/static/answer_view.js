// An answer on the page: thoughts, text, sources, pictures, and what became of it.

import { copy } from "./copying.js";
import { RichText } from "./rich_text.js";

export class AnswerView {
  pictures = [];
  sources = new Map(); // title by URL
  state = "running"; // running, whole, stopped, broken
  #text;
  #said;
  #thoughts = null;
  #sourceList = null;
  #foot;

  // `render` as for RichText.
  constructor(model, render) {
    this.model = model;
    this.element = make("article", { className: "assistant" });
    this.element.setAttribute("aria-label", model);
    this.element.setAttribute("aria-busy", "true"); // read out once it is whole
    this.#said = make("div", { className: "said" });
    this.#foot = make("div", { className: "foot" });
    this.element.append(this.#said, this.#foot);
    this.#text = new RichText(this.#said, render);
  }

  get text() {
    return this.#text.text;
  }

  get isEmpty() {
    return !this.text && !this.pictures.length;
  }

  write(delta) {
    this.#text.add(delta);
  }

  think(piece) {
    if (!this.#thoughts) {
      this.#thoughts = make("p");
      const details = make("details");
      details.append(make("summary", { textContent: "Thoughts" }), this.#thoughts);
      this.element.prepend(details);
    }
    this.#thoughts.append(piece);
  }

  // Sources are listed once for each URL, whatever the number of places that cite them.
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
    this.pictures.push(url);
    this.#foot.before(make("img", { src: url, alt: "A picture by the model" }));
  }

  // The answer is over: `note` is what there is to say of it.
  async end(state, note) {
    this.state = state;
    await this.#text.end();
    this.element.removeAttribute("aria-busy");
    if (note) this.#foot.append(make("p", { className: "hint", textContent: note }));
    if (this.text) this.addButton("Copy", (button) => copy(button, this.text)).setAttribute("aria-label", "Copy the answer as Markdown");
  }

  // The answer broke off: `trouble` are the nodes that say why.
  async breakOff(trouble) {
    await this.end("broken", "");
    this.element.classList.add("broken");
    const said = make("p", { role: "alert" });
    said.append(...trouble, " It is not part of the chat’s history.");
    this.#foot.prepend(said);
  }

  addButton(label, act) {
    const button = make("button", { type: "button", className: "quiet", textContent: label });
    button.addEventListener("click", () => act(button));
    this.#foot.append(button);
    return button;
  }
}

export function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
