// What all pages share: the token for what changes something, and the arrow keys between filters.
"use strict";
const token = document.querySelector('meta[name="convscope-token"]')?.content;
document.addEventListener("htmx:configRequest", (event) => {
  if (token) event.detail.headers["X-Convscope-Token"] = token;
});
document.addEventListener("htmx:responseError", (event) => {
  const told = document.createElement("p");
  told.className = "bad";
  try { told.textContent = JSON.parse(event.detail.xhr.responseText).error; } catch { told.textContent = event.detail.xhr.responseText; }
  event.detail.elt.after(told);
});
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, [tabindex], canvas")) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel="${rel}"]`);
  if (link) link.click();
});
