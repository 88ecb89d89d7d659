"use strict";
// Writes what the server tells into the elements it names: as text, never as markup. Listens only while the
// page is looked at: browsers keep few connections to one host.
const live = document.querySelector("[data-events]");
let source = null;

function show(event) {
  const news = JSON.parse(event.data);
  for (const [id, text] of Object.entries(news.texts)) {
    const element = document.getElementById(id);
    if (element && element.textContent !== text) element.textContent = text;
  }
  for (const [id, [value, max]] of Object.entries(news.bars)) {
    const bar = document.getElementById(id);
    if (bar) Object.assign(bar, { max, value });
  }
  const mood = document.getElementById("live-mood");
  if (mood) mood.className = `badge ${news.texts["live-mood"]}`;
  document.getElementById("live-changed").hidden = news.page === live.dataset.page;
}

function listen() {
  if (source) source.close();
  source = document.hidden ? null : new EventSource(live.dataset.events);
  if (source) source.addEventListener("progress", show);
}

if (live) {
  document.addEventListener("visibilitychange", listen);
  listen();
}
