// A growing text in Markdown: the daemon renders it repeatedly, and the part that is not rendered yet follows as plain text.

import { fill } from "./morph.js";

const PAUSE_MILLISECONDS = 400;
const LINE_CHARS = 4000; // longer lines of plain text are split, since layout takes quadratic time

export class RichText {
  text = "";
  #element;
  #render;
  #rendered = 0; // characters of `text` that are shown as Markdown
  #tail = null; // the element of the text after those
  #running = null; // the promise of the current rendering
  #timer = 0;
  #next = 0; // the earliest time of the next rendering
  #lastPiece = 0; // where the last piece of a plain text begins
  #plain = false; // too long or too slow to render: shown as plain text

  // `render` returns a promise of HTML, or of null for a text that is to be shown as plain text.
  constructor(element, render) {
    this.#element = element;
    this.#render = render;
  }

  add(delta) {
    this.text += delta;
    if (this.#plain) this.#schedule();
    else {
      this.#tail ??= this.#follow();
      this.#tail.append(delta);
      this.#schedule();
    }
  }

  // Show the complete text.
  async end() {
    await this.#running;
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.#rendered < this.text.length) await this.#redraw();
  }

  #schedule() {
    if (this.#running || this.#timer) return;
    this.#timer = setTimeout(() => this.#redraw(), Math.max(0, this.#next - performance.now()));
  }

  #redraw() {
    this.#timer = 0;
    this.#running = this.#draw().finally(() => {
      this.#running = null;
      if (this.#rendered < this.text.length) this.#schedule();
    });
    return this.#running;
  }

  async #draw() {
    const began = performance.now();
    const text = this.text;
    const markup = this.#plain ? null : await this.#render(text);
    if (markup === null) this.#drawPlain();
    else {
      fill(this.#element, markup);
      this.#rendered = text.length;
      this.#tail = text.length < this.text.length ? this.#follow() : null;
      this.#tail?.append(this.text.slice(text.length));
    }
    const took = performance.now() - began;
    this.#next = performance.now() + Math.max(PAUSE_MILLISECONDS, 4 * took);
  }

  // Returns a new tail. It begins with the white space at the end of the rendered text, which Markdown has dropped.
  #follow() {
    const tail = appendTail(this.#element);
    const before = this.text.slice(0, this.#rendered);
    if (!/\s$/.test(tail.parentElement.textContent)) tail.append(before.slice(before.trimEnd().length));
    return tail;
  }

  #drawPlain() {
    if (!this.#plain) {
      this.#plain = true;
      this.#rendered = 0;
      this.#element.replaceChildren();
      this.#element.classList.add("plain");
    }
    this.#element.lastChild?.remove(); // it has grown, and is added again
    for (const piece of pieces(this.text, this.#lastPiece)) {
      this.#lastPiece = piece.begin;
      this.#element.append(Object.assign(document.createElement("div"), { textContent: piece.text }));
    }
    this.#rendered = this.text.length;
  }
}

// An element for text after the last paragraph, list item or code block.
function appendTail(element) {
  let last = element;
  while (last.lastElementChild && !last.matches("p, h3, h4, h5, h6, pre")) last = last.lastElementChild;
  if (last.matches("pre")) last = last.firstElementChild;
  const tail = Object.assign(document.createElement("span"), { className: "tail" });
  last.append(tail);
  return tail;
}

// Yields the pieces of a text from the start of one: some lines, or a part of a line that is too long.
function* pieces(text, begin) {
  while (begin < text.length) {
    const newline = text.lastIndexOf("\n", begin + LINE_CHARS);
    const end = newline >= begin && begin + LINE_CHARS < text.length ? newline + 1 : begin + LINE_CHARS;
    yield { begin, text: text.slice(begin, end) };
    begin = end;
  }
}
