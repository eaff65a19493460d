// What the pages do by themselves: parts that redraw, text that is copied, lists that are searched. Without it they work.

const LIVE_MILLISECONDS = 2000;

// <div data-live="/address of the part">: drawn anew while the page is looked at.
for (const part of document.querySelectorAll("[data-live]")) {
  const redraw = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(part.dataset.live, { headers: { "X-Live": "1" } });
        if (answer.status === 401) return location.assign("/dashboard/login");
        if (answer.ok) show(part, await answer.text());
        part.classList.toggle("stale", !answer.ok);
      } catch {
        part.classList.add("stale"); // the daemon is away: what is shown is what was
      }
    }
    setTimeout(redraw, LIVE_MILLISECONDS);
  };
  setTimeout(redraw, LIVE_MILLISECONDS);
}

// Show the daemon's own markup, escaped there, in place of a part's. Where the focus was and is no more, it goes to the part.
function show(part, markup) {
  const focused = part.contains(document.activeElement);
  const fresh = document.createElement("template");
  fresh.innerHTML = markup;
  become(part, fresh.content);
  if (focused && !part.contains(document.activeElement)) part.focus({ preventScroll: true });
}

// Make the children of `old` those of `fresh`. Whatever stays is the same node as before, by its id or its place: so the
// focus, the selection, what is scrolled and what is open stay too.
function become(old, fresh) {
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = counterpart(next, child);
    if (!same) {
      old.insertBefore(child, next);
      continue;
    }
    while (next !== same) next = drop(next);
    next = same.nextSibling;
    if (same.isEqualNode(child)) continue;
    if (same.nodeType !== Node.ELEMENT_NODE) same.data = child.data;
    else {
      for (const { name, value } of child.attributes) same.setAttribute(name, value);
      for (const { name } of [...same.attributes]) if (name !== "open" && !child.hasAttribute(name)) same.removeAttribute(name);
      become(same, child);
    }
  }
  while (next) next = drop(next);
}

// Which node, from `next` on, `child` was before: elements go by their id, or by kind and class; a text stays in its place.
function counterpart(next, child) {
  if (child.nodeType !== Node.ELEMENT_NODE) return next?.nodeName === child.nodeName ? next : null;
  while (next && !isAlike(next, child)) next = next.nextSibling;
  return next;
}

function isAlike(one, other) {
  if (one.nodeName !== other.nodeName) return false;
  return one.id || other.id ? one.id === other.id : one.getAttribute("class") === other.getAttribute("class");
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

// Escape closes the question that is open, and leaves the focus on its button.
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector(".ask[open]");
  if (!open) return;
  open.open = false;
  open.firstElementChild.focus();
});

// <button data-copy="id of an element"> or <button data-text="text">
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-text]");
  if (!button) return;
  button.dataset.said ??= button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.text ?? document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it by hand"; // no clipboard without TLS, except on this machine
  }
  document.getElementById("told").textContent = button.textContent;
  setTimeout(() => (button.textContent = button.dataset.said), 1500);
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
