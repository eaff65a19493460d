// Scripts of the pages: live parts, copy buttons, search in lists. The pages also work without them.

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

// Replace a part's content with markup from the daemon, which has escaped it. If the focused element is gone, focus the part.
function show(part, markup) {
  const focused = part.contains(document.activeElement);
  const fresh = document.createElement("template");
  fresh.innerHTML = markup;
  morph(part, fresh.content);
  if (focused && !part.contains(document.activeElement)) part.focus({ preventScroll: true });
}

// Change the children of `old` into those of `fresh`, reusing nodes by id or position, so that focus, selection, scroll
// positions and open details are kept.
function morph(old, fresh) {
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
      morph(same, child);
    }
  }
  while (next) next = drop(next);
}

// The old node, from `next` on, that corresponds to `child`: elements match by id, or by tag and class, texts by position.
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

// Escape closes an open confirmation, and focuses its button.
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
  button.dataset.label ??= button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.text ?? document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it by hand"; // browsers offer no clipboard without TLS, except on localhost
  }
  document.getElementById("status").textContent = button.textContent;
  setTimeout(() => (button.textContent = button.dataset.label), 1500);
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
