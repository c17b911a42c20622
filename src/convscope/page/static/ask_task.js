// Ask a run of another task than classes: a mask over the image, labels beside their thresholds, or a number.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const [image, mask, told, meant, answers, controls] = ["image", "mask", "told", "meant", "answers", "controls"].map(at);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  let file = null; // the address of the mask's file

  const say = (text, kind) => { told.textContent = text; told.className = `lead ${kind}`; };

  function forget() {
    meant.textContent = "";
    answers.replaceChildren();
    image.hidden = mask.hidden = true;
    if (controls) controls.hidden = true;
  }

  function show(found, name) {
    say(found.told, "");
    meant.textContent = found.meant ?? "";
    image.src = found.image;
    image.hidden = false;
    if (found.labels) answers.replaceChildren(...found.labels.map(labelRow));
    if (found.mask) showMask(found, name);
  }

  function labelRow({ label, probability, threshold, told: said }) {
    const row = barRow(label, probability, `${percent(probability)} ${said ? "≥" : "<"} ${percent(threshold)}`);
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [key, value] of Object.entries({ x1: 100 * threshold, x2: 100 * threshold, y1: -2, y2: 12 })) mark.setAttribute(key, value);
    row.querySelector("svg").append(mark);
    row.classList.toggle("said", said);
    return row;
  }

  function showMask(found, name) {
    mask.src = found.drawn;
    mask.hidden = controls.hidden = false;
    fade();
    const [there, nowhere] = [found.classes.filter((row) => row.share > 0), found.classes.filter((row) => row.share === 0)];
    answers.replaceChildren(...there.map(classRow));
    if (nowhere.length) meant.textContent = `Nowhere in it: ${nowhere.map((row) => row.name).join(", ")}`;
    if (file) URL.revokeObjectURL(file);
    const bytes = Uint8Array.from(atob(found.mask.split(",")[1]), (c) => c.charCodeAt(0));
    file = at("file-of-mask").href = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    at("file-of-mask").download = `${(name ?? "image").replace(/\.[^.]*$/, "")}.mask.png`;
  }

  // What is not drawn, the background, has an empty box.
  function classRow({ name, share, colour }) {
    const row = barRow(name, share, percent(share)), box = document.createElement("span");
    box.className = "swatch";
    row.classList.toggle("undrawn", !colour);
    if (colour) box.style.background = row.querySelector("rect").style.fill = `rgb(${colour.join(" ")})`;
    row.querySelector("bdi").prepend(box);
    return row;
  }

  const fade = () => { mask.style.opacity = at("opacity").value / 100; };

  if (controls) at("opacity").addEventListener("input", fade);
  takeImages({ forget, show, say });
})();
