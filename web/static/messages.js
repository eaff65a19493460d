// The messages of a chat in the API's format, as functions of its turns.

// What the user wrote in a turn, with its pictures.
export function userMessage({ said, pictures }) {
  const parts = pictures.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  return { role: "user", content: parts.length ? [{ type: "text", text: said }, ...parts] : said };
}

// All that a column shows before a turn, or of the whole chat for a turn that is not in it yet; without truncated answers
// and those that have only pictures.
export function messagesBefore(turn, { system, turns }, column) {
  const place = turns.indexOf(turn);
  const before = (place < 0 ? turns : turns.slice(0, place))
    .map((each) => [each, each.shownIn(column)])
    .filter(([, view]) => view && view.state !== "broken" && view.text)
    .flatMap(([each, view]) => [userMessage(each), { role: "assistant", content: view.text }]);
  return system ? [{ role: "system", content: system }, ...before] : before;
}
