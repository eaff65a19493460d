// The chats that are kept in this browser, each under its own key, and the models that were used last.

const CHAT = "lmarena-bridge.chat.";
const SWITCH = "lmarena-bridge.keep-chats";
const RECENT = "lmarena-bridge.recent-models";
const OPEN = "lmarena-bridge.open-chat"; // kept for each tab
const DRAFT = "lmarena-bridge.draft"; // likewise
const MAX_CHATS = 100;
const MAX_RECENT = 5;

// Storage that does nothing if the browser forbids it.
function attempt(action, otherwise = null) {
  try {
    return action();
  } catch {
    return otherwise;
  }
}

export function isKeeping() {
  return attempt(() => localStorage.getItem(SWITCH)) !== "off";
}

export function setKeeping(on) {
  attempt(() => (on ? localStorage.removeItem(SWITCH) : localStorage.setItem(SWITCH, "off")));
}

// All chats, newest first.
export function allChats() {
  return attempt(() => Object.keys(localStorage), [])
    .filter((key) => key.startsWith(CHAT))
    .map((key) => attempt(() => JSON.parse(localStorage.getItem(key))))
    .filter((chat) => Array.isArray(chat?.turns))
    .sort((one, other) => other.used - one.used);
}

// Save a chat. If there is no space, older chats are deleted, and finally its own pictures are omitted.
export function keep(chat) {
  if (!isKeeping() || !chat.turns.length) return;
  attempt(() => sessionStorage.setItem(OPEN, chat.id));
  const key = CHAT + chat.id;
  const others = allChats().filter(({ id }) => id !== chat.id);
  for (const { id } of others.splice(MAX_CHATS - 1)) forget(id);
  for (;;) {
    if (attempt(() => (localStorage.setItem(key, JSON.stringify(chat)), true))) return;
    if (!others.length) break;
    forget(others.pop().id);
  }
  attempt(() => localStorage.setItem(key, JSON.stringify(chat, (name, value) => (name === "pictures" ? [] : value))));
}

export function forget(id) {
  attempt(() => localStorage.removeItem(CHAT + id));
}

export function forgetAll() {
  for (const { id } of allChats()) forget(id);
  attempt(() => localStorage.removeItem(RECENT));
}

// The chat that this tab showed before it was reloaded.
export function openChat() {
  const id = attempt(() => sessionStorage.getItem(OPEN));
  return id && attempt(() => JSON.parse(localStorage.getItem(CHAT + id)));
}

export function close() {
  attempt(() => sessionStorage.removeItem(OPEN));
}

// The message that this tab had not sent when its page was left.
export function draft() {
  return attempt(() => sessionStorage.getItem(DRAFT)) ?? "";
}

export function keepDraft(text) {
  attempt(() => sessionStorage.setItem(DRAFT, text));
}

export function recentModels() {
  return attempt(() => JSON.parse(localStorage.getItem(RECENT))) ?? [];
}

export function use(name) {
  const names = [name, ...recentModels().filter((other) => other !== name)].slice(0, MAX_RECENT);
  attempt(() => localStorage.setItem(RECENT, JSON.stringify(names)));
}
