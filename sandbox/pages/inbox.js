// The inbox page: the list, its filters and its pages, and what people do. The state lives in the hash, so that every view has an
// address. What comes from a mail must never become markup: here it is only set as text, mail.js shows the rest.

import { openMail } from "/mail.js";
import { $, NAMES, addressOf, ask, go, number, showBadge, showFace, showTime, state } from "/parts.js";

const PAGE_SIZE = 50;
const REFRESH_MS = 2000;

let page = { mails: [], older: null, newest: 0, kept: 0, counts: {} };
let isLive = true;
let timer = 0;
let asked = 0;
const pagesAbove = [];

// ---- the list

async function refresh() {
  clearTimeout(timer);
  const turn = ++asked;
  const { esp, recipient, before } = state();
  try {
    const found = await ask("/api/mails?" + new URLSearchParams({ esp, recipient, before, limit: PAGE_SIZE }));
    if (turn !== asked) return;
    setConnected(true);
    showPage(found);
  } catch {
    if (turn === asked) setConnected(false);
  }
  if (isLive && !document.hidden) timer = setTimeout(follow, REFRESH_MS);
}

// A page that is being read must not move: further down, or on an older page, what is new is only announced.
async function follow() {
  const { before, esp, recipient } = state();
  if (!before && $("mails").scrollTop < 30) return refresh();
  const turn = ++asked;
  try {
    const found = await ask("/api/mails?" + new URLSearchParams({ esp, recipient, limit: 1 }));
    if (turn !== asked) return;
    setConnected(true);
    showCounts(found);
    if (found.mails.length && found.mails[0].n > page.newest) announce();
  } catch {
    if (turn === asked) setConnected(false);
  }
  if (isLive && !document.hidden) timer = setTimeout(follow, REFRESH_MS);
}

function announce() {
  $("fresh").textContent = "↑ New mails";
  $("fresh").hidden = false;
}

function showPage(found) {
  const known = page.newest;
  const isFirst = known === 0;
  page = found;
  showCounts(found);
  $("fresh").hidden = true;
  showRows(found.mails, (mail) => !isFirst && mail.n > known);
  showEmpty(found);
  $("newer").disabled = !state().before;
  $("older").disabled = found.older === null;
  $("place").textContent = found.mails.length ? `${number(found.mails[0].n)} – ${number(found.mails.at(-1).n)}` : "";
  markCurrent();
}

// Rows that are already there stay the same elements: a hover, a focus or a half-done click survives the refresh.
function showRows(mails, isNew) {
  const there = new Map([...document.querySelectorAll(".row")].map((row) => [row.dataset.n, row.parentElement]));
  const items = mails.map((mail) => there.get(String(mail.n)) || rowOf(mail, isNew(mail)));
  for (const item of there.values()) if (!items.includes(item)) item.remove();
  items.forEach((item, place) => {
    if ($("mails").children[place] !== item) $("mails").insertBefore(item, $("mails").children[place] || null);
    showTime(item.querySelector(".when"), mails[place].at, false);
  });
}

function rowOf(mail, isNew) {
  const row = $("mail-row").content.cloneNode(true);
  const link = row.querySelector("a");
  link.href = addressOf({ mail: mail.n });
  link.dataset.n = mail.n;
  link.classList.toggle("new", isNew);
  showFace(row.querySelector(".face"), mail.recipient);
  row.querySelector(".who").textContent = mail.recipient;
  row.querySelector(".what").textContent = mail.subject;
  showTime(row.querySelector(".when"), mail.at, false);
  showBadge(row.querySelector(".badge"), mail.esp);
  return row.querySelector("li");
}

function showEmpty(found) {
  const { esp, recipient, before } = state();
  $("mails").hidden = !found.mails.length;
  $("empty").hidden = Boolean(found.mails.length);
  if (found.mails.length) return;
  const title = document.createElement("b");
  const isFiltered = esp || recipient || before;
  title.textContent = isFiltered ? "Nothing here" : "No mail yet";
  const hint = isFiltered
    ? `Among the newest ${number(found.kept)} mails there is none like this.`
    : "As soon as a fake ESP accepts a mail, it appears here by itself.";
  $("empty").replaceChildren(title, hint);
}

function showCounts(found) {
  const { esp } = state();
  const total = Object.values(found.counts).reduce((sum, count) => sum + count, 0);
  const wanted = [["", "All", total], ...Object.entries(found.counts).map(([name, count]) => [name, NAMES[name] || name, count])];
  const chips = $("chips");
  if (chips.children.length !== wanted.length) {
    chips.replaceChildren(...wanted.map(([name]) => chipOf(name)));
  }
  wanted.forEach(([name, label, count], place) => {
    const chip = chips.children[place];
    chip.setAttribute("aria-pressed", String(name === esp));
    chip.firstChild.textContent = label;
    chip.lastChild.textContent = number(count);
  });
}

function chipOf(name) {
  const chip = document.createElement("button");
  chip.type = "button";
  chip.className = "chip";
  chip.append(document.createElement("span"), document.createElement("b"));
  chip.addEventListener("click", () => go({ esp: name, before: "" }));
  return chip;
}

function markCurrent() {
  const { mail } = state();
  for (const row of document.querySelectorAll(".row")) {
    if (row.dataset.n === mail) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
    row.href = addressOf({ mail: row.dataset.n });
  }
}

function setConnected(isConnected) {
  $("live").classList.toggle("lost", !isConnected);
  $("live-text").textContent = isConnected ? (isLive ? "Live" : "Paused") : "Not reachable";
}

function moveBy(step) {
  const rows = [...document.querySelectorAll(".row")];
  const place = rows.findIndex((row) => row.dataset.n === state().mail);
  const next = rows[place < 0 ? 0 : Math.min(Math.max(place + step, 0), rows.length - 1)];
  if (!next) return;
  go({ mail: next.dataset.n });
  next.scrollIntoView({ block: "nearest" });
}

// ---- what people do

let typing = 0;
$("recipient").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => go({ recipient: event.target.value.trim(), before: "" }), 200);
});
$("search").addEventListener("submit", (event) => event.preventDefault());
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("mail").focus(); });
$("older").addEventListener("click", () => { pagesAbove.push(state().before); go({ before: page.older }); });
$("newer").addEventListener("click", () => go({ before: pagesAbove.pop() ?? "" }));
$("fresh").addEventListener("click", () => {
  pagesAbove.length = 0;
  $("mails").scrollTop = 0;
  if (state().before) go({ before: "" });
  else refresh();
});
$("live").addEventListener("click", () => {
  isLive = !isLive;
  $("live").setAttribute("aria-pressed", String(isLive));
  refresh();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && isLive) follow(); });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); $("recipient").focus(); }
  if (event.key === "j") moveBy(1);
  if (event.key === "k") moveBy(-1);
  if (event.key === "Escape" && state().mail) go({ mail: "" });
});

let listed = "";
function show() {
  const { esp, recipient, before } = state();
  const wanted = JSON.stringify([esp, recipient, before]);
  if (document.activeElement !== $("recipient")) $("recipient").value = recipient;
  if (wanted !== listed) {
    listed = wanted;
    $("mails").scrollTop = 0;
    page.newest = 0;
    refresh();
  }
  markCurrent();
  openMail(page.newest).catch(() => setConnected(false));
}
window.addEventListener("hashchange", show);
show();
