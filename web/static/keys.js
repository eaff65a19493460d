// The Keys page: a list of models to choose from, and how many of them match a key's patterns.

import { ModelPicker } from "./model_picker.js";

const PAUSE_MILLISECONDS = 250;

for (const input of document.querySelectorAll("[data-matching]")) {
  const output = input.closest(".field").querySelector("output");
  let timer = 0;
  const say = async () => {
    const models = input.value.trim();
    try {
      const answer = models && (await fetch(`/dashboard/keys/matching?${new URLSearchParams({ models })}`));
      if (input.value.trim() === models) output.textContent = answer && answer.ok ? await answer.text() : "";
    } catch {
      output.textContent = ""; // the daemon is unreachable, so the number is unknown
    }
  };
  for (const kind of ["input", "change"]) {
    input.addEventListener(kind, () => {
      clearTimeout(timer);
      timer = setTimeout(say, PAUSE_MILLISECONDS);
    });
  }
  input.addEventListener("focus", say, { once: true });
  new ModelPicker(input, { many: true });
}
