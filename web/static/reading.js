// Keeps the end of a growing page in view, unless the reader has scrolled elsewhere.

const NEAR_PIXELS = 48;

// Follow the growing `element`; `button` is shown if the reader is elsewhere. Returns a function that scrolls to the end.
export function followEnd(element, button) {
  const page = document.scrollingElement;
  const isAtEnd = () => page.scrollHeight - page.clientHeight - page.scrollTop <= NEAR_PIXELS;
  let following = true;
  let height = 0;
  let place = 0; // the reader's last scroll position

  const show = () => (button.hidden = following);
  const go = () => {
    following = true;
    page.scrollTop = page.scrollHeight;
    place = page.scrollTop;
    show();
  };
  addEventListener("scroll", () => {
    // The page may have grown before this event: the reader is elsewhere only after scrolling up.
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
