// What both halves of the inbox page need: the state in the hash, questions to the server, and how things are written.
// What comes from a mail is only ever set as text; it must never become markup.

export const NAMES = { sendgrid: "SendGrid", postmark: "Postmark", socketlabs: "SocketLabs", sparkpost: "SparkPost", ses: "Amazon SES", smtp: "SMTP" };
const HUES = { sendgrid: 205, postmark: 42, socketlabs: 160, sparkpost: 14, ses: 28, smtp: 275 };
export const $ = (id) => document.getElementById(id);

export function state() {
  const given = new URLSearchParams(location.hash.slice(1));
  return { esp: given.get("esp") || "", recipient: given.get("recipient") || "", before: given.get("before") || "", mail: given.get("mail") || "", tab: given.get("tab") || "" };
}

export function addressOf(changes) {
  const wanted = { ...state(), ...changes };
  return "#" + new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
}

export function go(changes) {
  location.hash = addressOf(changes);
}

export async function ask(path) {
  const reply = await fetch(path);
  if (!reply.ok && reply.status !== 404) throw new Error(String(reply.status));
  return reply.json();
}

export function term(tag, text, className) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

export function partsOf(mailbox) {
  const [, name, address] = mailbox.match(/^\s*(.*?)\s*<([^<>]+)>\s*$/) || [null, "", mailbox];
  return { name: unquoted(name) || address, address };
}

export function unquoted(text) {
  return text.replace(/"((?:[^"\\]|\\.)*)"/g, (_, inner) => inner.replace(/\\(.)/g, "$1"));
}

export function showFace(face, address, name = address) {
  let hue = 0;
  for (const character of address) hue = (hue * 31 + character.codePointAt(0)) % 360;
  face.textContent = (name.match(/[\p{L}\p{N}]/u) || ["?"])[0];
  face.style.setProperty("--hue", hue);
}

export function showBadge(badge, esp) {
  badge.textContent = NAMES[esp] || esp;
  badge.style.setProperty("--hue", HUES[esp] ?? 240);
}

export function showTime(element, at, isLong) {
  const date = new Date(at * 1000);
  const age = Date.now() / 1000 - at;
  element.dateTime = date.toISOString();
  element.title = date.toLocaleString();
  if (isLong) element.textContent = date.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  else if (age < 60) element.textContent = "now";
  else if (age < 3600) element.textContent = `${Math.floor(age / 60)} min`;
  else if (date.toDateString() === new Date().toDateString()) element.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  else element.textContent = date.toLocaleDateString([], { day: "numeric", month: "short" });
}

export function number(value) {
  return Number(value).toLocaleString("en");
}

export function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1048576).toFixed(1)} MB`;
}
