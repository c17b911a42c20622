// Forms that start a training: sent with the token, and then the training's own page is opened.
"use strict";
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form.begin")) return;
  event.preventDefault();
  const button = form.querySelector("button"), told = form.querySelector("[role=status]");
  button.disabled = true;
  try {
    const answer = await fetch(`${form.getAttribute("action")}?${new URLSearchParams(new FormData(form))}`, { method: "POST", headers: { "X-Convscope-Token": token } });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    location.href = `${form.getAttribute("action")}/${encodeURIComponent(found.name)}`;
  } catch (error) { told.className = "bad"; told.textContent = error.message; button.disabled = false; }
});
