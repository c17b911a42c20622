// Steering a training, and drawing what a look into it saw.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const ask = async (address) => {
    const answer = await fetch(address, { method: "POST", headers: { "X-Convscope-Token": token } });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  };

  const place = at("training");
  if (!place) return;
  const OVER = ["finished", "stopped", "failed"];
  const points = [[], []];
  const UPDATES = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((power) => n * 10 ** power)).sort((a, b) => a - b); // between two ticks
  const last = (chart) => { if (chart.cursor.idx == null && points[0].length) chart.setLegend({ idx: points[0].length - 1 }); };
  let chart = null, look = null, probes = null, shown = 0, chosen = 0, refusals = 0, rate = 0, waiting = 0, epochs = 0;
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const figures = (value, digits = 3) => Number(value.toPrecision(digits)).toString();

  function refuse(sentence) { at("refused").hidden = !sentence; at("refused").textContent = sentence || ""; }
  async function say(command, more = {}) {
    refuse("");
    try { await ask(`${place.dataset.at}/${command}?${new URLSearchParams(more)}`); soon(); } catch (error) { refuse(error.message); }
  }
  for (const button of place.querySelectorAll("[data-say]")) button.addEventListener("click", () => say(button.dataset.say));
  for (const select of [at("layer"), at("mode")]) select.addEventListener("change", () => {
    at("looking").hidden = true;
    say("look", { layer: at("layer").value, mode: at("mode").value });
  });

  function draw() {
    chart?.destroy();
    const axis = { stroke: ink("--quiet"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line") }, font: "13px system-ui, sans-serif" };
    chart = new uPlot({
      hooks: { ready: [last], setCursor: [last] },
      width: Math.max(280, at("losses").clientWidth), height: 240,
      series: [{ label: "update" }, { label: "loss", stroke: ink("--one"), width: 1.5, points: { show: points[0].length < 40, size: 6 }, value: (_, v) => (v == null ? "–" : v.toFixed(3)) }],
      scales: { x: { time: false, range: (_, low, high) => [Math.min(low ?? 0, 0), Math.max(high ?? 1, 10)] }, y: { range: (_, low, high) => [0, 1.05 * (high || 1)] } },
      axes: [{ ...axis, incrs: UPDATES, label: "update", labelSize: 20, labelFont: "13px system-ui, sans-serif" }, { ...axis, size: 56 }],
    }, points, at("losses"));
  }

  // Blue below 0, the paper's own colour at 0, orange above.
  function paint(canvas, grid, shape, filter, image) {
    const [, images, height, width] = shape, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const zero = dark ? [24, 28, 33] : [250, 250, 250], ends = dark ? [[90, 170, 255], [255, 150, 60]] : [[0, 88, 170], [196, 76, 0]];
    const pixels = new ImageData(width, height), start = (filter * images + image) * height * width;
    for (let i = 0; i < height * width; i++) {
      const value = grid[start + i] / 127, end = ends[value < 0 ? 0 : 1], share = Math.sqrt(Math.abs(value));
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = zero[c] + share * (end[c] - zero[c]);
      pixels.data[4 * i + 3] = 255;
    }
    canvas.width = width; canvas.height = height;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function photograph(canvas, image) {
    const [, height, width] = probes.shape, found = bytes(probes.pixels), pixels = new ImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = found[3 * (image * height * width + i) + c];
      pixels.data[4 * i + 3] = 255;
    }
    canvas.width = width; canvas.height = height;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function made(tag, text, more = {}) { return Object.assign(document.createElement(tag), { textContent: text, ...more }); }

  function drawProbes() {
    const there = at("probes");
    if (there.children.length !== probes.labels.length) {
      there.replaceChildren(...probes.labels.map((label, image) => {
        const item = made("li", ""), button = made("button", "", { type: "button" }), canvas = made("canvas", "");
        photograph(canvas, image);
        button.append(canvas, made("span", label, { className: "small" }), made("span", "", { className: "small answer" }));
        button.addEventListener("click", () => { chosen = image; drawLook(); });
        item.append(button);
        return item;
      }));
    }
    look.answers.forEach(([guess, probability], image) => {
      const button = there.children[image].firstChild, answer = button.querySelector(".answer");
      button.setAttribute("aria-pressed", image === chosen);
      answer.className = `small answer ${guess === probes.labels[image] ? "good" : "bad"}`;
      answer.textContent = `${guess === probes.labels[image] ? "✓" : "✗"} ${guess}, ${(100 * probability).toFixed(0)}\u00a0%`;
    });
  }

  function drawLook() {
    if (!look || !probes || look.layer !== at("layer").value) return;
    drawProbes();
    const maps = new Int8Array(bytes(look.maps).buffer), gradients = new Int8Array(bytes(look.gradients).buffer);
    const there = at("maps");
    while (there.children.length > look.filters.length) there.lastChild.remove();
    while (there.children.length < look.filters.length) {
      const item = made("li", "");
      item.append(made("canvas", "", { role: "img" }), made("canvas", "", { role: "img" }), made("span", "", { className: "small quiet" }));
      there.append(item);
    }
    look.filters.forEach((filter, number) => {
      const [map, gradient, words] = there.children[number].children;
      paint(map, maps, look.shape, number, chosen);
      paint(gradient, gradients, look.shape, number, chosen);
      map.setAttribute("aria-label", `feature map of filter ${filter}`);
      gradient.setAttribute("aria-label", `gradient of the loss with respect to the map of filter ${filter}`);
      words.textContent = `filter ${filter}`;
    });
    const moved = look.change === null ? "How far its weights move is known after the next update." : `The last update moved the layer's weights by ${figures(100 * look.change)} % of their norm.`;
    at("change").textContent = `${moved} (Epoch ${look.epoch}, update ${look.step}.)`;
    at("scale").textContent = `The strongest colour is ${figures(look.largest_map)} in the maps and ${figures(look.largest_gradient)} in the gradients; the colour grows with the root of the value. ${look.filters.length} of ${look.of} filters. Loss of the eight images in this mode: ${figures(look.loss)}. The look took ${figures(1000 * look.seconds, 2)} ms.`;
    at("looking").hidden = false;
  }

  function take(found) {
    for (const [update, loss, lr] of found.points) { points[0].push(update); points[1].push(loss); rate = lr; }
    if (found.points.length || !chart) draw();
    at("state").textContent = found.state;
    at("state").classList.toggle("live", found.state === "training");
    at("said").textContent = found.said && (found.state === "preparing" || OVER.includes(found.state)) ? found.said : "";
    if (found.epoch) {
      at("epoch").textContent = found.epoch;
      at("step").textContent = `${found.step} of ${found.steps}`;
      at("loss").textContent = found.loss.toFixed(3);
      at("rate").textContent = figures(found.lr);
    }
    const row = found.rows.at(-1);
    if (row) at("validation").textContent = `${(100 * row.val_top1).toFixed(1)} %`;
    if (row && row.epoch > epochs) { epochs = row.epoch; keptAnew(); }
    if (at("layer").length === 1) for (const name of found.layers) at("layer").append(made("option", name, { value: name }));
    if (found.refusals > refusals) { refusals = found.refusals; refuse(found.refused); }
    if (found.probes && !probes) probes = found.probes;
    if (found.look) { look = found.look; shown = look.number; drawLook(); }
    const over = OVER.includes(found.state), ready = ["training", "paused"].includes(found.state);
    for (const button of place.querySelectorAll("[data-say]")) button.disabled = over || (!ready && button.dataset.say !== "stop") || (found.state === "paused" ? button.dataset.say === "pause" : button.dataset.say === "resume");
    at("layer").disabled = at("mode").disabled = !ready;
    if (over && !at("ended")) {
      const line = made("p", "", { id: "ended" });
      line.append(made("a", "The run's own page", { href: place.dataset.run }));
      place.querySelector(".figures").before(line);
    }
    return over;
  }

  // An epoch was kept: the slider goes further now. What is chosen stays; "now" follows where it was at the end.
  function keptAnew() {
    const form = at("compare");
    if (!at("apart").open || !window.htmx) return;
    const chosen = form ? new FormData(form) : new FormData();
    if (form && form.elements.now.value === form.elements.now.max) chosen.delete("now");
    htmx.ajax("GET", `${at("apart").dataset.at}?${new URLSearchParams(chosen)}`, { target: "#epochs", select: "#epochs", swap: "outerHTML" });
  }

  async function poll() {
    clearTimeout(waiting);
    let wait = 250;
    try {
      const answer = await fetch(`${place.dataset.at}.json?after=${points[0].at(-1) || 0}&look=${shown}`);
      const found = await answer.json();
      if (!answer.ok) { refuse(found.error); return; }
      if (take(found)) return;
    } catch (error) { refuse(`The page does not answer: ${error.message}`); wait = 2000; }
    waiting = setTimeout(poll, wait);
  }
  function soon() { clearTimeout(waiting); waiting = setTimeout(poll, 40); }

  addEventListener("resize", () => { if (chart) chart.setSize({ width: Math.max(280, at("losses").clientWidth), height: 240 }); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); drawLook(); });
  poll();
})();
