// Ask a run which class an image is; then change it and watch the answer.
"use strict";
(() => {
  const place = document.getElementById("ask");
  const at = (id) => document.getElementById(id);
  const [canvas, told, answers, controls] = ["image", "told", "answers", "controls"].map(at);
  const sliders = ["cover", "turn", "zoom", "right", "down"];
  let now = null; // the last answer
  let pointer = null; // where on the image the pointer is, in shares of its side
  let busy = false, again = false;

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const say = (text, kind) => { told.textContent = text; told.className = `lead ${kind}`; };

  function begin(found) {
    reset();
    controls.hidden = false;
    show(found);
    if (window.htmx) htmx.ajax("GET", `${place.dataset.asked}/${found.key}/evidence`, "#evidence");
  }

  function show(found) {
    now = { ...now, ...found };
    const refused = found.none_of_these?.refused;
    say(refused ? `None of these: less familiar than ${(100 * found.none_of_these.coverage).toFixed(0)} % of validation images. At best:` : `${found.top[0].label}, ${(100 * found.top[0].probability).toFixed(1)} %`, refused ? "doubt" : "");
    answers.replaceChildren(...found.top.map(({ label, probability }) => barRow(label, probability, `${(100 * probability).toFixed(1)} %`)));
    draw();
  }

  // The image, and over it where the network looks: blue for what speaks for the answer, orange against.
  function draw() {
    if (!now?.pixels) return;
    const pixels = bytes(now.pixels), size = now.size, opacity = at("opacity").value / 100;
    const map = now.looks ? new Int8Array(bytes(now.looks.map).buffer) : null;
    canvas.width = canvas.height = size;
    const drawn = canvas.getContext("2d").createImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      const value = map ? map[i] / 127 : 0, share = Math.abs(value) * opacity, ink = value > 0 ? [0, 114, 220] : [230, 110, 0];
      for (let c = 0; c < 3; c++) drawn.data[4 * i + c] = pixels[3 * i + c] * (1 - share) + ink[c] * share;
      drawn.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(drawn, 0, 0);
  }

  function wanted() {
    const value = Object.fromEntries(sliders.map((name) => [name, Number(at(name).value)]));
    const asked = new URLSearchParams({ turn: value.turn, zoom: 2 ** (value.zoom / 50), right: value.right / 100, down: value.down / 100, mirror: at("mirror").checked ? 1 : 0 });
    if (value.cover && pointer) for (const [name, x] of [["cover", value.cover / 100], ["x", pointer[0]], ["y", pointer[1]]]) asked.set(name, x);
    return asked;
  }

  // One question at a time; what was asked for meanwhile is asked once, when the answer is there.
  async function change() {
    if (!now?.key) return;
    if (busy) { again = true; return; }
    busy = true;
    const { key } = now;
    try {
      const answer = await fetch(`${place.dataset.asked}/${key}.json?${wanted()}`);
      const found = await answer.json();
      if (now?.key !== key) again = false; // another image was given meanwhile
      else if (answer.ok) show(found); else say(found.error, "bad");
    } catch (error) { say(`The page does not answer: ${error.message}`, "bad"); }
    busy = false;
    if (again) { again = false; change(); }
  }

  // The last image and its answer: what is said next is about another.
  function forget() {
    now = null;
    answers.replaceChildren();
    at("evidence").replaceChildren();
    controls.hidden = true;
    canvas.width = canvas.height = 1;
  }

  function reset() {
    for (const name of sliders) at(name).value = 0;
    at("mirror").checked = false;
  }

  // What is familiar to it was just found: "none of these" may be the answer now, and the nearest images are known.
  document.addEventListener("known", () => {
    if (!now?.key) return;
    change();
    htmx.ajax("GET", `${place.dataset.asked}/${now.key}/evidence`, "#evidence");
  });
  at("opacity").addEventListener("input", draw);
  for (const name of [...sliders, "mirror"]) at(name).addEventListener("input", change);
  at("reset").addEventListener("click", () => { reset(); change(); });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    pointer = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (Number(at("cover").value)) change();
  });
  canvas.addEventListener("pointerleave", () => { pointer = null; if (Number(at("cover").value)) change(); });
  takeImages({ forget, show: begin, say });
})();
