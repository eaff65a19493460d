// Scripts of the pages: live parts, copy buttons, search in lists. The pages also work without them.

import { copy } from "./copying.js";
import { fill } from "./morph.js";

const LIVE_MILLISECONDS = 2000;

// <div data-live="/URL of the part">: refreshed periodically while the page is visible.
for (const part of document.querySelectorAll("[data-live]")) {
  const redraw = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(part.dataset.live, { headers: { "X-Live": "1" } });
        if (answer.status === 401) return location.assign("/dashboard/login");
        if (answer.ok) show(part, await answer.text());
        part.classList.toggle("stale", !answer.ok);
      } catch {
        part.classList.add("stale"); // the daemon is unreachable: the content is stale
      }
    }
    setTimeout(redraw, LIVE_MILLISECONDS);
  };
  setTimeout(redraw, LIVE_MILLISECONDS);
}

// Replace a part's content. If the focused element is gone, focus the part.
function show(part, markup) {
  const focused = part.contains(document.activeElement);
  fill(part, markup);
  if (focused && !part.contains(document.activeElement)) part.focus({ preventScroll: true });
}

// Escape closes an open confirmation, and focuses its button.
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector(".ask[open]");
  if (!open) return;
  open.open = false;
  open.firstElementChild.focus();
});

// <button data-copy="id of an element">, <button data-text="text">, or <button data-copy-code> beside a block of code.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-text], [data-copy-code]");
  if (!button) return;
  const { copy: id, text } = button.dataset;
  copy(button, text ?? (id ? document.getElementById(id) : button.closest(".code").querySelector("pre")).textContent);
});

// The snippets call the origin of this page.
for (const each of document.querySelectorAll("[data-origin]")) each.textContent = location.origin;

// <form data-filter="id of a list">: shows the rows that contain every word and have every checked trait.
for (const form of document.querySelectorAll("form[data-filter]")) {
  const list = document.getElementById(form.dataset.filter);
  const count = form.querySelector("output");
  const filter = () => {
    const words = form.elements.search.value.toLowerCase().split(/\s+/);
    const traits = [...form.querySelectorAll(":checked")].map((box) => box.value);
    let found = 0;
    for (const row of list.querySelectorAll("[data-traits]")) {
      const has = row.dataset.traits.split(" ");
      const name = row.dataset.name.toLowerCase();
      row.hidden = !(words.every((word) => name.includes(word)) && traits.every((trait) => has.includes(trait)));
      found += !row.hidden;
    }
    count.textContent = `${found} found`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
