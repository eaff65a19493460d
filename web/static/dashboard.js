// What the pages do by themselves: parts that redraw, text that is copied, lists that are searched. Without it they work.

const LIVE_MILLISECONDS = 2000;

// <section data-live="/address of the part">: drawn anew while the page is looked at.
for (const part of document.querySelectorAll("[data-live]")) {
  let shown = null;
  const redraw = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(part.dataset.live, { headers: { "X-Live": "1" } });
        if (answer.status === 401) return location.assign("/dashboard/login");
        const text = await answer.text();
        if (answer.ok && text !== shown && !isBusy(part)) {
          if (shown !== null || part.dataset.fresh === undefined) replace(part, text);
          shown = text;
        }
        part.classList.toggle("stale", !answer.ok);
      } catch {
        part.classList.add("stale"); // the daemon is away: what is shown is what was
      }
    }
    setTimeout(redraw, LIVE_MILLISECONDS);
  };
  setTimeout(redraw, LIVE_MILLISECONDS);
}

// Someone is typing in it, has selected text, or was asked something.
function isBusy(part) {
  const selection = getSelection();
  const selects = !selection.isCollapsed && part.contains(selection.anchorNode);
  return selects || part.querySelector("details.ask[open]") || part.querySelector("input:focus, select:focus");
}

// The daemon's own markup, escaped there. What was opened stays open, what had the focus keeps it.
function replace(part, markup) {
  const open = [...part.querySelectorAll("details[id][open]")].map((each) => each.id);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.innerHTML = markup;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus();
}

// <button data-copy="id of an element">
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-text]");
  if (!button) return;
  const text = button.dataset.text ?? document.getElementById(button.dataset.copy).textContent;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it by hand"; // no clipboard without TLS, except on this machine
  }
  setTimeout(() => (button.textContent = said), 1500);
});

// Where the snippets call is where this page came from.
for (const each of document.querySelectorAll("[data-origin]")) each.textContent = location.origin;

// <form data-filter="id of a list">: rows show where every word is found, and every checked box is among their traits.
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
