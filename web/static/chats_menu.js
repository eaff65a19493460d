// The menu of the chats that are kept in this browser: it opens one, forgets one or all, and turns the keeping on and off.

import { make, makeButton } from "./answer_view.js";
import * as store from "./chat_store.js";

const SURE = "Yes, forget all chats"; // the label of the button that has been pressed once

export class ChatsMenu {
  #menu;
  #list;
  #empty;
  #keep;
  #forget;

  // `menu` is the <details>; `open` is called with the chat to open, `keep` when the present chat may have to be kept.
  constructor(menu, { open, keep }) {
    this.#menu = menu;
    [this.#list, this.#empty, this.#keep, this.#forget] = ["chats", "no-chats", "keep", "forget"].map((id) => document.getElementById(id));
    this.open = open;
    menu.addEventListener("toggle", () => this.#show());
    this.#keep.addEventListener("change", ({ target }) => {
      store.setKeeping(target.checked);
      keep();
    });
    this.#forget.addEventListener("click", () => {
      if (this.#forget.textContent !== SURE) return (this.#forget.textContent = SURE);
      store.forgetAll();
      store.close();
      this.#show();
    });
  }

  close() {
    this.#menu.open = false;
  }

  #show() {
    this.#keep.checked = store.isKeeping();
    const chats = store.allChats();
    this.#list.replaceChildren(...chats.map((chat) => this.#item(chat)));
    this.#empty.hidden = chats.length > 0;
    Object.assign(this.#forget, { disabled: !chats.length, textContent: "Forget all" });
  }

  #item(chat) {
    const title = chat.turns[0]?.said.slice(0, 60) ?? "";
    const open = makeButton(title, `Open the chat “${title}”`, () => this.open(chat));
    const remove = makeButton("×", `Forget the chat “${title}”`, () => {
      store.forget(chat.id);
      this.#show();
    });
    const item = make("li", { className: "row" });
    item.append(open, remove);
    return item;
  }
}
