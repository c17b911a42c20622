// What was seen of the layers by steps: a line a layer on a log scale, from blue at the image to orange at the logits.
"use strict";
(() => {
  const place = document.getElementById("by-steps");
  if (!place) return;
  const { steps, quantities } = JSON.parse(place.querySelector("script.rows").textContent);
  const holder = place.querySelector(".chart"), quantity = document.getElementById("quantity"), pointed = document.getElementById("pointed");
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const USUAL = "Point at a line to read its layer and its value.";
  let chart = null, near = null;

  function between(share) {
    const [first, last] = [channels(ink("--one")), channels(ink("--two"))];
    return `rgb(${first.map((value, c) => Math.round(value + share * (last[c] - value))).join(" ")})`;
  }

  function tell() {
    const at = chart?.cursor.idx;
    if (near === null || at === null || at === undefined) { pointed.textContent = `${USUAL} Blue is nearest to the image, orange to the logits.`; return; }
    const { layer, values } = quantities[quantity.value].layers[near - 1];
    pointed.textContent = `${layer}, update ${steps[at].toLocaleString("en")}: ${values[at] === null ? "not known" : values[at].toPrecision(3)}`;
  }

  function draw() {
    chart?.destroy();
    near = null;
    const { layers } = quantities[quantity.value];
    const axis = { stroke: ink("--quiet"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line") }, font: "13px system-ui, sans-serif" };
    const powers = (_, splits) => splits.map((v) => (v > 0 && Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6 ? `1e${Math.round(Math.log10(v))}` : ""));
    chart = new uPlot({
      width: Math.max(280, holder.clientWidth), height: 340,
      legend: { show: false },
      cursor: { focus: { prox: 24 }, points: { size: 7 } },
      focus: { alpha: 0.25 },
      series: [{ label: "update" }, ...layers.map(({ layer }, number) => ({ label: layer, stroke: between(layers.length > 1 ? number / (layers.length - 1) : 0), width: 1.5, spanGaps: false, points: { show: steps.length < 30, size: 5 } }))],
      scales: { x: { time: false }, y: { distr: 3, log: 10 } },
      axes: [{ ...axis, label: "update", labelSize: 20, labelFont: "13px system-ui, sans-serif" }, { ...axis, size: 60, values: powers }],
      hooks: { setCursor: [tell], setSeries: [(_, series) => { near = series; tell(); }] },
    }, [steps, ...layers.map(({ values }) => values.map((value) => (value > 0 ? value : null)))], holder);
    tell();
  }

  quantity.addEventListener("change", draw);
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
