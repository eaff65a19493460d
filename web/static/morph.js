// Updates a part of a page to newer markup, and keeps unchanged elements with their focus, selection and scroll position.

// Replace the content of `part` by markup that the daemon has escaped; `change` may modify it first.
export function fill(part, markup, change) {
  const fresh = document.createElement("template");
  fresh.innerHTML = markup;
  change?.(fresh.content);
  morph(part, fresh.content);
}

// Turn the children of `old` into those of `fresh`, reusing nodes by id or position.
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

// Find the old node, from `next` on, that corresponds to `child`. Elements match by id, or by tag and class; texts by position.
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
