// Turns <input list="models"> into a combobox: a list, favourites first, searched by name and maker.

import { make } from "./answer_view.js";

const MARKS = ["sees", "draws", "search", "stealth"];
const GROUPS = [
  ["Favourites", ({ star }) => star],
  ["Recent", ({ name }, recent) => recent.includes(name)],
  ["Chat", ({ traits }) => traits.includes("chat")],
  ["Search", ({ traits }) => traits.includes("search")],
  ["Pictures", () => true],
];

// All models of the page's <datalist>, in its order.
export const models = [...(document.getElementById("models")?.options ?? [])].map((option) => ({
  name: option.value,
  maker: option.label,
  about: `${option.value} ${option.dataset.also} ${option.label}`.toLowerCase(),
  traits: option.dataset.traits.split(" "),
  star: "star" in option.dataset,
}));

export function modelNamed(name) {
  return models.find((model) => model.name === name);
}

// Options: with `many`, the field has names and patterns separated by commas, and accepts any text; `recent` returns names.
export class ModelPicker {
  #input;
  #list;
  #options;
  #active = -1;
  #chosen = "";

  constructor(input, { many = false, recent = () => [], changed = () => {} } = {}) {
    this.#input = input;
    this.many = many;
    this.recent = recent;
    this.changed = changed;
    this.#chosen = input.value;
    this.#list = make("div", { className: "choices", id: `${input.id}-choices`, hidden: true });
    this.#list.setAttribute("role", "listbox");
    this.#list.setAttribute("aria-label", "Models");
    input.removeAttribute("list");
    for (const [name, value] of Object.entries({
      role: "combobox",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": this.#list.id,
    })) input.setAttribute(name, value);
    input.parentElement.classList.add("picker");
    input.after(this.#list);
    input.addEventListener("focus", () => many || input.select());
    input.addEventListener("click", () => this.#open(true));
    input.addEventListener("input", () => this.#open());
    input.addEventListener("keydown", (event) => this.#press(event));
    input.addEventListener("blur", () => this.#leave());
    this.#list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
    this.#list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#choose(option.dataset.name);
    });
  }

  get value() {
    return this.#chosen;
  }

  set value(name) {
    this.#input.value = this.#chosen = name;
    this.changed();
  }

  get model() {
    return modelNamed(this.#chosen);
  }

  // Show the models that match the words of the field, or of its last part; with `all`, show all if the name is complete.
  #open(all = false) {
    const written = this.many ? this.#input.value.split(",").pop().trim() : this.#input.value.trim();
    const words = all && (written === this.#chosen || !written) ? [] : written.toLowerCase().split(/\s+/);
    const found = models.filter(({ about }) => words.every((word) => about.includes(word)));
    const recent = this.recent();
    const left = new Set(found);
    this.#list.replaceChildren();
    for (const [title, belongs] of GROUPS) {
      const members = found.filter((model) => left.has(model) && belongs(model, recent));
      if (!members.length) continue;
      members.forEach((model) => left.delete(model));
      const group = make("div");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", title);
      group.append(make("div", { className: "hint", textContent: title, ariaHidden: "true" }), ...members.map((model) => this.#option(model)));
      this.#list.append(group);
    }
    this.#options = [...this.#list.querySelectorAll("[role=option]")];
    if (!found.length && !this.many) this.#list.append(make("p", { className: "hint", textContent: "No model matches all of these conditions." }));
    this.#list.hidden = this.many && !found.length;
    this.#input.setAttribute("aria-expanded", String(!this.#list.hidden));
    this.#activate(this.many ? -1 : words.length ? 0 : this.#options.findIndex(({ dataset }) => dataset.name === this.#chosen));
  }

  #option({ name, maker, traits, star }) {
    const option = make("div", { id: `${this.#input.id}-${models.findIndex((model) => model.name === name)}` });
    option.setAttribute("role", "option");
    option.dataset.name = name;
    const marks = MARKS.filter((mark) => traits.includes(mark));
    option.append(
      make("span", { className: "name", textContent: star ? `★ ${name}` : name }),
      make("span", { className: "hint", textContent: [maker, ...marks].join(" · ") }),
    );
    return option;
  }

  #activate(place) {
    this.#active = place;
    this.#options.forEach((option, index) => option.setAttribute("aria-selected", String(index === place)));
    const option = this.#options[place];
    if (option) {
      this.#input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else this.#input.removeAttribute("aria-activedescendant");
  }

  #press(event) {
    const open = !this.#list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return this.#open(true);
      const count = this.#options.length;
      if (count) this.#activate((this.#active + (event.key === "ArrowDown" ? 1 : -1) + count) % count);
    } else if (event.key === "Enter" && open && this.#options[this.#active]) {
      event.preventDefault();
      this.#choose(this.#options[this.#active].dataset.name);
    } else if (event.key === "Enter" && !this.many) event.preventDefault();
    else if (event.key === "Escape" && open) {
      event.stopPropagation();
      if (!this.many) this.#input.value = this.#chosen;
      this.#close();
    }
  }

  #choose(name) {
    if (this.many) {
      const parts = this.#input.value.split(",").slice(0, -1).map((part) => part.trim());
      this.#input.value = [...parts, name].join(", ");
      this.#input.dispatchEvent(new Event("change", { bubbles: true }));
    } else if (name !== this.#chosen || this.#input.value !== name) this.value = name;
    this.#close();
  }

  #leave() {
    if (!this.many) this.#input.value = modelNamed(this.#input.value)?.name ?? this.#chosen;
    if (!this.many && this.#input.value !== this.#chosen) this.value = this.#input.value;
    this.#close();
  }

  #close() {
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }
}
