// Copying to the clipboard.

// Copy `text`, and confirm it on the button for a moment.
export async function copy(button, text) {
  const label = (button.dataset.label ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = copySelected(text) ? "Copied" : "Select it by hand";
  }
  document.getElementById("status").textContent = button.textContent;
  setTimeout(() => (button.textContent = label), 1500);
}

// The way without the clipboard's API, which browsers offer only over TLS or on localhost. Returns whether it worked.
function copySelected(text) {
  const focused = document.activeElement;
  const field = Object.assign(document.createElement("textarea"), { className: "unseen", value: text, readOnly: true });
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return copied;
}
