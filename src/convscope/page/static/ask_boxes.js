// Ask a run for boxes: lines over the image and a list of them, which a slider and a tick a class show and hide.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const [stage, drawing, tip, told, meant, answers, controls, kinds, from, cut] = ["stage", "drawing", "tip", "told", "meant", "answers", "controls", "kinds", "from", "cut"].map(at);
  let now = null; // the last answer
  let score = 0; // from which on boxes are shown
  let parts = []; // of each box itself, its frame over the image and the button of its row
  let lit = null; // the one of these that is pointed at
  let files = []; // addresses of what can be downloaded

  const say = (text, kind) => { told.textContent = text; told.className = `lead ${kind}`; };
  const ink = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

  function made(name, values) {
    const found = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) found.setAttribute(key, value);
    return found;
  }

  function forget() {
    light(null);
    [now, parts] = [null, []];
    meant.textContent = "";
    answers.replaceChildren();
    drawing.replaceChildren();
    stage.style.aspectRatio = "";
    controls.hidden = true;
  }

  function show(found, name) {
    now = found;
    drawing.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
    stage.style.aspectRatio = Math.max(0.6, Math.min(found.width / found.height, 2.4));
    parts = found.boxes.map((box) => ({ box, frame: frameOf(box), button: buttonOf(box) }));
    const whole = { href: found.image, width: found.width, height: found.height, preserveAspectRatio: "none" };
    const area = ({ box }) => (box.right - box.left) * (box.bottom - box.top);
    drawing.replaceChildren(made("image", whole), ...[...parts].sort((a, b) => area(b) - area(a)).map((part) => part.frame)); // small ones above
    answers.replaceChildren(...parts.map(({ button }) => { const row = document.createElement("li"); row.append(button); return row; }));
    const named = new Set(found.boxes.map((box) => box.label));
    kinds.replaceChildren(...found.counts.filter(({ name: kind }) => named.has(kind)).map(kindRow));
    controls.hidden = false;
    offer(found, name ?? "image");
    begin();
  }

  function frameOf({ left, top, right, bottom, colour }) {
    const frame = made("g", {}), place = { x: left, y: top, width: right - left, height: bottom - top };
    const line = made("rect", { ...place, class: "line" });
    line.style.stroke = ink(colour);
    frame.append(made("rect", { ...place, class: "halo" }), line);
    return frame;
  }

  function swatchOf(colour) {
    const box = document.createElement("span");
    box.className = "swatch";
    box.style.background = ink(colour);
    return box;
  }

  function buttonOf({ label, score: own, left, top, right, bottom, colour }) {
    const button = document.createElement("button"), row = barRow(label, own, own.toFixed(2));
    const [wide, high, x, y] = [right - left, bottom - top, left, top].map(Math.round);
    row.querySelector("rect").style.fill = ink(colour);
    row.querySelector("bdi").prepend(swatchOf(colour));
    button.type = "button";
    button.tabIndex = -1;
    button.append(...row.childNodes);
    button.setAttribute("aria-label", `${label} ${own.toFixed(2)}, ${wide} \u00d7 ${high} pixels, left ${x}, top ${y}`);
    return button;
  }

  function kindRow({ name, colour }) {
    const [row, label, tick, word, count] = ["li", "label", "input", "bdi", "span"].map((kind) => document.createElement(kind));
    [tick.type, tick.checked, tick.value, word.textContent, count.className] = ["checkbox", true, name, name, "quiet"];
    label.append(tick, swatchOf(colour), word, count);
    row.append(label);
    return row;
  }

  // Show the boxes that reach the score and whose class is ticked; the sentence counts those of all classes.
  function sift() {
    const hidden = new Set([...kinds.querySelectorAll("input:not(:checked)")].map((tick) => tick.value)), counts = new Map();
    for (const { box, frame, button } of parts) {
      const there = box.score >= score;
      if (there) counts.set(box.label, (counts.get(box.label) ?? 0) + 1);
      frame.toggleAttribute("hidden", !there || hidden.has(box.label));
      button.parentElement.hidden = !there || hidden.has(box.label);
    }
    for (const row of kinds.children) row.querySelector("span.quiet").textContent = counts.get(row.querySelector("input").value) ?? 0;
    const words = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${name}`).join(", ") || "no box";
    if (told.textContent !== words) say(words, "");
    drawing.setAttribute("aria-label", `the image with its boxes: ${words}`);
    meant.textContent = score === now.threshold ? now.meant : `Boxes are shown from a score of ${score.toFixed(2)} on; validation chose ${now.threshold.toFixed(2)}.`;
    cut.textContent = score.toFixed(2);
    if (lit && !shown().includes(lit)) light(null);
    reach(shown().find((part) => part.button.tabIndex === 0) ?? shown()[0]);
  }

  const shown = () => parts.filter(({ button }) => !button.parentElement.hidden);

  // The one button of the list that the tabulator reaches; the arrow keys lead on from it.
  function reach(part) { for (const { button } of parts) button.tabIndex = button === part?.button ? 0 : -1; }

  function begin() {
    score = now.threshold;
    from.value = score.toFixed(2);
    for (const tick of kinds.querySelectorAll("input")) tick.checked = true;
    sift();
  }

  // Mark a box and its row, and say beside it what it is; null for none.
  function light(part) {
    for (const one of [lit?.frame, lit?.button]) one?.classList.remove("on");
    lit = part;
    drawing.classList.toggle("some", part !== null);
    tip.hidden = part === null;
    if (!part) return;
    for (const one of [part.frame, part.button]) one.classList.add("on");
    tip.textContent = `${part.box.label} ${part.box.score.toFixed(2)}`;
    const box = part.frame.lastChild.getBoundingClientRect(), around = stage.getBoundingClientRect();
    const above = box.top - around.top - tip.offsetHeight - 2;
    tip.style.left = `${Math.max(0, Math.min(box.left - around.left, around.width - tip.offsetWidth - 2))}px`;
    tip.style.top = `${above >= 0 ? above : Math.min(box.bottom - around.top + 2, around.height - tip.offsetHeight - 2)}px`;
  }

  const focused = () => parts.find(({ button }) => button === document.activeElement) ?? null;
  const partAt = (element) => parts.find(({ frame, button }) => frame.contains(element) || button.contains(element)) ?? null;

  // What validation chose is what is downloaded, whatever is shown.
  function offer(found, name) {
    const stem = name.replace(/\.[^.]*$/, ""), coco = JSON.parse(found.coco);
    coco.images[0].file_name = name;
    files.forEach(URL.revokeObjectURL);
    files = [["yolo", found.yolo, `${stem}.txt`], ["coco", JSON.stringify(coco), `${stem}.coco.json`], ["names", found.counts.map((kind) => `${kind.name}\n`).join(""), "classes.txt"]].map(([of, text, called]) => {
      const link = at(`file-of-${of}`);
      link.download = called;
      return link.href = URL.createObjectURL(new Blob([text], { type: of === "coco" ? "application/json" : "text/plain" }));
    });
  }

  function step(event) {
    const there = shown(), here = there.indexOf(focused());
    const next = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: there.length - 1 }[event.key];
    if (next === undefined || here < 0) return;
    event.preventDefault();
    there[Math.max(0, Math.min(next, there.length - 1))].button.focus();
  }

  from.addEventListener("input", () => {
    const value = Number(from.value);
    score = value === Number(now.threshold.toFixed(2)) ? now.threshold : value;
    sift();
  });
  kinds.addEventListener("change", sift);
  at("reset").addEventListener("click", begin);
  answers.addEventListener("keydown", step);
  answers.addEventListener("focusin", (event) => { const part = partAt(event.target); reach(part); light(part); });
  answers.addEventListener("focusout", () => light(null));
  for (const place of [answers, drawing]) {
    place.addEventListener("pointerover", (event) => light(partAt(event.target) ?? focused()));
    place.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") light(focused()); });
  }
  drawing.addEventListener("pointerover", () => { // its row comes into the list's view, and the page stays
    if (lit) answers.scrollTop += Math.min(0, lit.button.offsetTop - answers.scrollTop) + Math.max(0, lit.button.offsetTop + lit.button.offsetHeight - answers.scrollTop - answers.clientHeight);
  });
  window.addEventListener("resize", () => light(lit));
  takeImages({ forget, show, say });
})();
