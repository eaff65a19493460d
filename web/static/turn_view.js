// A question and its answers, of one model or of two side by side, with all variants that each model gave.

import { AnswerView, make, makeButton } from "./answer_view.js";

export class TurnView {
  #columns = []; // { element, variants, shown }
  #answers;
  #actions;

  // `actions`: edit(turn), again(turn, column).
  constructor({ said, pictures }, actions) {
    this.said = said;
    this.pictures = pictures;
    this.#actions = actions;
    const question = make("article", { className: "user" });
    question.setAttribute("aria-label", "You");
    question.append(make("div", { className: "said plain", textContent: said }));
    question.append(...pictures.map(({ url }) => make("img", { src: url, alt: "Your picture" })));
    const edit = makeButton("Edit", "Edit the question", () => actions.edit(this));
    edit.classList.add("only-last");
    this.#answers = make("div", { className: "answers" });
    this.element = make("div", { className: "exchange" });
    this.element.append(question, edit, this.#answers);
  }

  static restored(kept, actions, render) {
    const turn = new TurnView(kept, actions);
    kept.answers.forEach(({ variants, shown }, column) => {
      variants.forEach((variant) => turn.add(column, AnswerView.restored(variant, render)));
      turn.#show(column, shown);
    });
    return turn;
  }

  toJSON() {
    const answers = this.#columns.map(({ variants, shown }) => ({ variants, shown }));
    return { said: this.said, pictures: this.pictures, answers };
  }

  // The answer that a column shows; the first column's, if the turn has no second.
  shownIn(column) {
    const { variants, shown } = this.#columns[column] ?? this.#columns[0] ?? { variants: [] };
    return variants[shown];
  }

  get isEmpty() {
    return this.#columns.every(({ variants }) => variants.every((view) => view.isEmpty));
  }

  // Add an answer, and show it; it replaces a truncated one.
  add(column, view) {
    while (this.#columns.length <= column) {
      const element = make("div", { className: "column" });
      this.#answers.append(element);
      this.#columns.push({ element, variants: [], shown: 0 });
    }
    const answers = this.#columns[column];
    answers.variants = [...answers.variants.filter(({ state }) => state !== "broken"), view];
    this.#show(column, answers.variants.length - 1);
  }

  // Remove an answer that did not arrive, and show the one before.
  remove(column, view) {
    const answers = this.#columns[column];
    answers.variants = answers.variants.filter((other) => other !== view);
    this.#show(column, answers.variants.length - 1);
  }

  #show(column, place) {
    const answers = this.#columns[column];
    answers.shown = Math.min(Math.max(0, place), answers.variants.length - 1);
    const view = answers.variants[answers.shown];
    answers.element.replaceChildren(...(view ? [view.element] : []));
    if (!view) return;
    const again = makeButton(view.state === "broken" ? "Try again" : "↻", "Ask for this answer again", () => this.#actions.again(this, column));
    again.classList.add("only-last");
    view.setTools(again, ...this.#leaves(column));
  }

  // Buttons to switch between a column's variants.
  #leaves(column) {
    const { variants, shown } = this.#columns[column];
    if (variants.length < 2) return [];
    const leaf = (text, label, place) => {
      const button = makeButton(text, label, () => {
        this.#show(column, place);
        this.#columns[column].element.querySelector(`[aria-label="${label}"]:enabled, .leaf:enabled`)?.focus();
        this.#actions.changed();
      });
      button.disabled = place < 0 || place >= variants.length;
      button.classList.add("leaf");
      return button;
    };
    return [
      leaf("‹", "Previous answer", shown - 1),
      make("span", { className: "hint", textContent: `${shown + 1}/${variants.length}` }),
      leaf("›", "Next answer", shown + 1),
    ];
  }

  // The buttons depend on how the answer ended.
  refresh(column) {
    this.#show(column, this.#columns[column].shown);
  }
}
