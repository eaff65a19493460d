// Scripts for all pages: live parts, copy buttons, search in lists. The pages also work without them.

import { copy } from "./copying.js";
import { fill } from "./morph.js";
import { post } from "./streaming.js";
import { clock, localize } from "./times.js";

const LIVE_MILLISECONDS = 2000;
// A hidden page is refreshed rarely, since only its title and icon are visible.
const HIDDEN_MILLISECONDS = 30000;
// After this time without an answer, the page says that it is out of date.
const LOST_MILLISECONDS = 6000;

// The answer to a form is left at the address of its page, so that loading it again does not send the form again.
const sentFrom = document.querySelector("main").dataset.page;
if (sentFrom) history.replaceState(null, "", sentFrom + location.search);

// <div data-live="/URL of the part"> is refreshed periodically. A page has at most one.
const part = document.querySelector("[data-live]");
if (part) keepFresh(part);

function keepFresh(part) {
  const pause = document.getElementById("pause");
  const asOf = document.getElementById("as-of");
  let heard = Date.now(); // when the daemon last answered
  let since = heard; // the same, or when the page became visible again
  let paused = false;
  let timer;

  const redraw = async () => {
    clearTimeout(timer);
    if (paused) return;
    try {
      const headers = { "X-Live": document.hidden ? "hidden" : "1" };
      const answer = await fetch(part.dataset.live, { headers, signal: AbortSignal.timeout(LOST_MILLISECONDS) });
      if (answer.status === 401) return location.assign(`/dashboard/login?next=${location.pathname}${encodeURIComponent(location.search)}`);
      if (paused) return;
      if (answer.ok) {
        show(part, await answer.text());
        warn(decodeURIComponent(answer.headers.get("X-Alert") ?? ""));
        heard = since = Date.now();
        asOf.dateTime = new Date(heard).toISOString();
        asOf.textContent = clock(heard);
        found(part);
      }
    } catch {
      // the daemon is unreachable or too slow; `watch` reports it
    }
    timer = setTimeout(redraw, document.hidden ? HIDDEN_MILLISECONDS : LIVE_MILLISECONDS);
  };
  const watch = () => {
    const patience = document.hidden ? HIDDEN_MILLISECONDS : 0;
    if (!paused && Date.now() - since > LOST_MILLISECONDS + patience) lose(part, heard);
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    since = Math.max(since, Date.now() - LOST_MILLISECONDS / 2);
    redraw();
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    since = Date.now();
    redraw();
  });
  timer = setTimeout(redraw, LIVE_MILLISECONDS);
  setInterval(watch, 500);
}

// The daemon does not answer: the page is out of date, and its headline may be wrong.
function lose(part, heard) {
  const bar = document.getElementById("lost");
  if (bar.hidden) {
    bar.textContent = `No connection to the bridge since ${clock(heard)}: the content below is out of date. Retrying every 2 seconds.`;
    bar.hidden = false;
    part.classList.add("stale");
    const heading = part.querySelector("h1");
    if (heading) heading.textContent = "No connection to the bridge";
    part.querySelector(".lead")?.remove(); // it explains the former headline
    warn("No connection");
  }
}

// The daemon answers again, and the part has been replaced.
function found(part) {
  document.getElementById("lost").hidden = true;
  part.classList.remove("stale");
}

// Show a problem in the tab's title and icon; "" for none.
function warn(alert) {
  const title = document.querySelector("title");
  document.title = alert ? `(!) ${alert} · ${title.dataset.plain}` : title.dataset.plain;
  const icon = document.querySelector("link[rel=icon]");
  const wanted = alert ? icon.dataset.alert : icon.dataset.plain;
  if (icon.getAttribute("href") !== wanted) icon.setAttribute("href", wanted);
}

// Replace a part's content. If the focused element is gone, focus the part.
function show(part, markup) {
  const focused = part.contains(document.activeElement);
  fill(part, markup, localize);
  if (focused && !part.contains(document.activeElement)) part.focus({ preventScroll: true });
}

// Escape closes an open confirmation, and focuses its button.
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector(".ask[open]");
  if (!open) return;
  open.open = false;
  open.firstElementChild.focus();
});

// <button data-copy="id of an element">, <button data-text="text">, or <button data-copy-code> next to a code block.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-text], [data-copy-code]");
  if (!button) return;
  const { copy: id, text } = button.dataset;
  copy(button, text ?? (id ? document.getElementById(id) : button.closest(".code").querySelector("pre")).textContent);
});

// A favourite is marked in place, without loading the page again; where that fails, the form says why.
const stars = document.querySelector("form#star");
stars?.addEventListener("submit", async (event) => {
  if (stars.dataset.failed) return;
  event.preventDefault();
  const button = event.submitter;
  try {
    await post("/dashboard/models/star", new URLSearchParams({ [button.name]: button.value }), stars.elements.csrf.value);
    const star = button.name === "add";
    button.name = star ? "remove" : "add";
    button.textContent = star ? "★" : "☆";
    button.setAttribute("aria-pressed", String(star));
  } catch {
    stars.dataset.failed = "yes";
    stars.requestSubmit(button);
  }
});

// The code examples call the origin of this page.
for (const each of document.querySelectorAll("[data-origin]")) each.textContent = location.origin;

// <form data-filter="id of a list"> shows the rows that contain every word and have every checked trait. It keeps this state
// in the address, and in the fields and links that lead back to the page. Without scripts, the form is submitted.
for (const form of document.querySelectorAll("form[data-filter]")) {
  const list = () => document.getElementById(form.dataset.filter);
  const count = form.querySelector("output");
  const asked = (sort) => {
    const query = new URLSearchParams([...new FormData(form)].filter(([name, value]) => value && name !== "sort"));
    if (sort) query.set("sort", sort);
    return `${query}`;
  };
  const filter = () => {
    const words = form.elements.q.value.toLowerCase().split(/\s+/);
    const traits = [...form.querySelectorAll(":checked:not(option)")].map((box) => box.value);
    let found = 0;
    for (const row of list().querySelectorAll("[data-traits]")) {
      const has = row.dataset.traits.split(" ");
      const name = row.dataset.name.toLowerCase();
      row.hidden = !(words.every((word) => name.includes(word)) && traits.every((trait) => has.includes(trait)));
      found += !row.hidden;
    }
    count.textContent = `${found} found`;
    document.getElementById("none").hidden = found > 0;
  };
  form.addEventListener("input", () => {
    filter();
    const query = asked(form.elements.sort?.value);
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    for (const field of document.querySelectorAll("input[name=at]")) field.value = query;
    for (const link of document.querySelectorAll("a[data-sort]")) link.search = asked(link.dataset.sort);
  });
  form.elements.sort?.addEventListener("change", async () => {
    try {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      list().closest("table").replaceWith(page.getElementById(form.dataset.filter).closest("table"));
      filter();
    } catch {
      location.reload(); // the reloaded page says what is wrong
    }
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
