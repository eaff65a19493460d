// Copying to the clipboard.

// Copy `text`, and confirm it on the button for a moment.
export async function copy(button, text) {
  const label = (button.dataset.label ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it by hand"; // browsers offer the clipboard only over TLS or on localhost
  }
  document.getElementById("status").textContent = button.textContent;
  setTimeout(() => (button.textContent = label), 1500);
}
