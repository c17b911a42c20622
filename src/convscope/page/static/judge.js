// A choice about an image goes into the corrections file at once.
"use strict";
(() => {
  const place = document.getElementById("judging");
  if (!place) return;
  const saved = document.getElementById("saved");
  place.addEventListener("change", async ({ target }) => {
    const chosen = target.selectedOptions[0];
    const asked = new URLSearchParams({ digest: target.dataset.digest, action: chosen.value, label: chosen.dataset.label || "" });
    try {
      const answer = await fetch(`${place.dataset.mark}?${asked}`, { method: "POST", headers: { "X-Convscope-Token": token } });
      const found = await answer.json();
      saved.className = answer.ok ? "good" : "bad";
      saved.textContent = answer.ok ? `Saved: ${found.lines} line${found.lines === 1 ? "" : "s"} in it now.` : found.error;
      if (!answer.ok) return;
      for (const other of place.querySelectorAll(`select[data-digest="${target.dataset.digest}"]`)) {
        other.closest("figure").classList.toggle("marked", chosen.value !== "keep");
        for (const option of other.options) if (option.value === chosen.value && (option.dataset.label || "") === (chosen.dataset.label || "")) option.selected = true;
      }
    } catch (error) { saved.className = "bad"; saved.textContent = `The page does not answer: ${error.message}`; }
  });
})();
