// One mail of the inbox page, as its recipient would see it. Its HTML goes into srcdoc of a frame that has no permission at all,
// everything else of it is set as text.

import { $, addressOf, ask, go, number, partsOf, showBadge, showFace, showTime, size, state, term, unquoted } from "/parts.js";

let shown = null;

// Shows the mail of the address bar, or that none is chosen; rejects where the server does not answer.
export async function openMail(newest) {
  const { mail } = state();
  document.body.classList.toggle("reading", Boolean(mail));
  if (!mail) return showNothing("Choose a mail to see it as its recipient would.");
  if (shown && String(shown.n) === mail) return showTab();
  const found = await ask("/api/mails/" + encodeURIComponent(mail));
  if (state().mail !== mail) return;
  shown = found.error ? null : found;
  if (found.error) showNothing(Number(mail) > newest ? "There is no such mail yet." : "This mail is no longer kept; its line is still in the ledger.");
  else showMail(found);
}

function showNothing(text) {
  shown = null;
  const box = document.createElement("div");
  box.className = "nothing";
  const icon = document.createElement("img");
  Object.assign(icon, { src: "/icon.svg", alt: "", width: 56, height: 56 });
  box.append(icon, text);
  $("mail").replaceChildren(box);
  document.title = "Sandbox inbox";
}

function showMail(mail) {
  const view = $("mail-view").content.cloneNode(true);
  const headers = new Map((mail.content?.headers || []).map(([name, value]) => [name.toLowerCase(), value]));
  const from = headers.get("from") || "";
  const subject = mail.content ? mail.content.subject : mail.subject;
  view.querySelector(".subject").textContent = subject;
  const sender = partsOf(from);
  view.querySelector(".from").append(term("b", sender.name), sender.name === sender.address ? "" : " ", term("span", sender.name === sender.address ? "" : sender.address));
  const copies = [["to", headers.get("to") || mail.recipient], ["cc", headers.get("cc")], ["bcc", headers.get("bcc")]];
  view.querySelector(".to").textContent = copies.filter(([, who]) => who).map(([label, who]) => `${label} ${unquoted(who)}`).join(" · ");
  showFace(view.querySelector(".people .face"), sender.address, sender.name);
  showBadge(view.querySelector(".badge"), mail.esp);
  showTime(view.querySelector(".when"), mail.at, true);
  showIds(view.querySelector(".ids"), mail);
  showFiles(view.querySelector(".files"), mail.content?.attachments || []);
  view.querySelector(".back").addEventListener("click", () => go({ mail: "" }));
  for (const button of view.querySelectorAll("[role=tab]")) {
    button.addEventListener("click", () => location.replace(addressOf({ tab: button.dataset.tab })));
    button.addEventListener("keydown", walkTabs);
  }
  $("mail").replaceChildren(view);
  $("mail").scrollTop = 0;
  document.title = `${subject || "(no subject)"} – Sandbox inbox`;
  $("status").textContent = `Mail to ${mail.recipient} opened`;
  showTab();
}

function showIds(list, mail) {
  const rows = [["Attempt id", mail.attempt_id || "none given"], ["Message id", mail.message_id], ["Request", number(mail.request)], ["Mail", number(mail.n)]];
  list.replaceChildren(...rows.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(term("dt", name), term("dd", value));
    return pair;
  }));
}

function showFiles(list, files) {
  list.hidden = !files.length;
  list.replaceChildren(...files.map((file) => {
    const item = term("li", file.name + " ");
    item.append(term("span", size(file.size_bytes)));
    return item;
  }));
}

function showTab() {
  const wanted = state().tab;
  const content = shown?.content;
  const has = { html: Boolean(content?.html), text: Boolean(content?.text), headers: Boolean(content) };
  const open = has[wanted] ? wanted : ["html", "text", "headers"].find((name) => has[name]) || "html";
  for (const button of document.querySelectorAll("[role=tab]")) {
    button.disabled = !has[button.dataset.tab];
    button.setAttribute("aria-selected", String(button.dataset.tab === open));
    button.tabIndex = button.dataset.tab === open ? 0 : -1;
  }
  $("panel").setAttribute("aria-labelledby", `tab-${open}`);
  $("panel").replaceChildren(content ? panelOf(open, content) : gone());
  const hasRemote = open === "html" && content && /<img[^>]+src\s*=\s*["']?https?:/i.test(content.html);
  document.querySelector(".note").textContent = hasRemote ? "Remote images are not loaded" : "";
}

function panelOf(open, content) {
  if (open === "text") return term("pre", content.text);
  return open === "headers" ? headersOf(content) : frameOf(content.html);
}

// An empty sandbox attribute takes every right away: no scripts, no forms, no pop-ups, no navigation, an origin of its own.
function frameOf(html) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "");
  frame.setAttribute("referrerpolicy", "no-referrer");
  frame.title = "The mail as its recipient would see it";
  frame.srcdoc = html;
  // A link of the mail is stopped by the page's policy, which leaves an error page in the frame: bring the mail back.
  let loads = 0;
  frame.addEventListener("load", () => {
    if (++loads === 1) return;
    showTab();
    document.querySelector(".note").textContent = "Links of a mail lead nowhere from here";
  });
  return frame;
}

function headersOf(content) {
  const list = document.createElement("dl");
  for (const [name, value] of content.headers) list.append(term("dt", name), term("dd", value));
  const metadata = Object.entries(content.metadata);
  if (metadata.length) list.append(term("dt", "Metadata", "part"));
  for (const [name, value] of metadata) list.append(term("dt", name), term("dd", value));
  return list;
}

function gone() {
  return term("p", "The body of this mail is no longer kept.", "gone");
}

function walkTabs(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const open = [...document.querySelectorAll("[role=tab]:not(:disabled)")];
  const next = open[(open.indexOf(event.currentTarget) + step + open.length) % open.length];
  next.click();
  next.focus();
}
