// Keyboard shortcuts: "/" goes to the page's search field, "g" and a letter to a page, and "?" shows them all.

const PENDING_MILLISECONDS = 1500; // how long a letter may follow "g"

const shown = document.getElementById("shortcuts");
const pages = new Map([...document.querySelectorAll("nav [data-key]")].map((link) => [link.dataset.key, link]));
let pending = 0; // when "g" was pressed

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isWriting(event.target)) return;
  const { key } = event;
  const page = Date.now() - pending < PENDING_MILLISECONDS ? pages.get(key) : undefined;
  pending = key === "g" && !page ? Date.now() : 0;
  const search = key === "/" ? document.querySelector("main input[type=search]") : null;
  if (page) page.click();
  else if (search) search.focus();
  else if (key === "?") shown.open ? shown.close() : shown.showModal();
  else return;
  event.preventDefault();
});

function isWriting(target) {
  return target.isContentEditable || target.matches("textarea, select, input:not([type=checkbox], [type=radio])");
}
