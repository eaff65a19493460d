// Pictures for the next message, which are chosen, pasted or dropped, and can be removed.

import { make } from "./answer_view.js";

export class Pictures {
  #list = []; // { name, url }
  #row;
  #limits;

  // `row` shows them; `limits` has maxBytes and maxPictures; `complain` shows a text; `refusal` returns why none may be added, or "".
  constructor(row, limits, { complain, refusal }) {
    this.#row = row;
    this.#limits = limits;
    this.complain = complain;
    this.refusal = refusal;
  }

  get all() {
    return this.#list;
  }

  set all(list) {
    this.#list = list;
    this.#show();
  }

  async add(files) {
    const pictures = [...files].filter(({ type }) => /^image\/(png|jpeg|gif|webp)$/.test(type));
    if (!pictures.length) return files.length ? this.complain("Only PNG, JPEG, GIF and WebP pictures can be sent.") : undefined;
    const refusal = this.refusal();
    if (refusal) return this.complain(refusal);
    const { maxBytes, maxPictures } = this.#limits;
    for (const file of pictures) {
      if (file.size > Number(maxBytes)) this.complain(`${file.name} is larger than ${(maxBytes / 1e6).toFixed(0)} MB.`);
      else if (this.#list.length >= Number(maxPictures)) this.complain(`At most ${maxPictures} pictures can go with a message.`);
      else this.#list = [...this.#list, { name: file.name || "picture", url: await read(file) }];
    }
    this.#show();
  }

  #show() {
    this.#row.replaceChildren(
      ...this.#list.map((picture) => {
        const figure = make("span", { className: "picture" });
        const remove = make("button", { type: "button", className: "quiet", textContent: "×" });
        remove.setAttribute("aria-label", `Remove ${picture.name}`);
        remove.addEventListener("click", () => (this.all = this.#list.filter((each) => each !== picture)));
        figure.append(make("img", { src: picture.url, alt: picture.name }), remove);
        return figure;
      }),
    );
    this.#row.hidden = !this.#list.length;
  }
}

function read(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
