// Keeps the end of a growing page in view for whoever is there, and lets everybody else read.

const NEAR_PIXELS = 48;

// Follow `element`, which grows; `button` is shown to those who are elsewhere. Returns a function that goes to the end.
export function followEnd(element, button) {
  const page = document.scrollingElement;
  const isAtEnd = () => page.scrollHeight - page.clientHeight - page.scrollTop <= NEAR_PIXELS;
  let following = true;
  let height = 0;
  let place = 0; // where the reader was last seen

  const show = () => (button.hidden = following);
  const go = () => {
    following = true;
    page.scrollTop = page.scrollHeight;
    place = page.scrollTop;
    show();
  };
  addEventListener("scroll", () => {
    // The end may have gone on before this event came: only who has moved up is elsewhere.
    following = isAtEnd() || (following && page.scrollTop >= place);
    place = page.scrollTop;
    show();
  });
  new ResizeObserver(() => {
    const grown = element.offsetHeight > height;
    height = element.offsetHeight;
    if (following && grown) go();
    else {
      following ||= isAtEnd();
      show();
    }
  }).observe(element);
  button.addEventListener("click", go);
  return go;
}
