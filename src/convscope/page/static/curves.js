// Curves of one run or several, drawn again as the rows of a training come in.
"use strict";
(() => {
  const place = document.getElementById("curves");
  if (!place) return;
  const runs = JSON.parse(place.querySelector("script.rows").textContent).map((run) => ({ run: run.run, rows: run.rows || run.curves }));
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const COLOURS = ["--one", "--two", "--three", "--four"];
  const several = runs.length > 1;
  const charts = [];
  const EPOCHS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]; // between two ticks: there is no half epoch
  // Where nothing is pointed at, the legend has the last epoch's values.
  const last = (chart) => { if (chart.cursor.idx == null) chart.setLegend({ idx: chart.data[0].length - 1 }); };

  function lines(of) {
    const epochs = [...new Set(runs.flatMap((run) => run.rows.map((row) => row.epoch)))].sort((a, b) => a - b);
    const scale = of === "top1" ? 100 : 1;
    const data = [epochs], series = [{ label: "epoch" }];
    runs.forEach((run, number) => {
      const at = new Map(run.rows.map((row) => [row.epoch, row]));
      const colour = ink(COLOURS[number % COLOURS.length]);
      const add = (key, label, more) => {
        data.push(epochs.map((epoch) => (at.has(epoch) && at.get(epoch)[key] !== null ? scale * at.get(epoch)[key] : null)));
        series.push({ label, stroke: colour, width: 2, points: { show: epochs.length < 30, size: 6 }, value: (_, v) => (v == null ? "–" : v.toFixed(of === "top1" ? 1 : 3)), ...more });
      };
      if (!several && of === "top1") { // first, so that the band lies below the line
        add("val_low", "95 % from", { width: 0, stroke: "transparent", points: { show: false } });
        add("val_high", "to", { width: 0, stroke: "transparent", points: { show: false } });
      }
      add(`val_${of}`, several ? run.run : "validation", {});
      if (!several) add(`train_${of}`, "training", { stroke: ink("--two"), dash: [6, 4] });
    });
    const bands = !several && of === "top1" ? [{ series: [2, 1], fill: ink("--bar") }] : [];
    return { data, series, bands };
  }

  function draw() {
    charts.splice(0).forEach((chart) => chart.destroy());
    for (const holder of place.querySelectorAll(".chart")) {
      const { data, series, bands } = lines(holder.dataset.of);
      const axis = { stroke: ink("--quiet"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line") }, font: "13px system-ui, sans-serif" };
      charts.push(new uPlot({
        width: Math.max(280, holder.clientWidth), height: 260, series, bands, hooks: { ready: [last], setCursor: [last] },
        scales: { x: { time: false, range: (_, low, high) => [Math.min(low, 0.5), Math.max(high, low + 1)] } },
        axes: [{ ...axis, incrs: EPOCHS, label: "epoch", labelSize: 20, labelFont: "13px system-ui, sans-serif" }, { ...axis, size: 56 }],
      }, data, holder));
    }
  }

  function row(found) {
    const cells = [found.epoch, found.train_loss.toPrecision(3), `${(100 * found.train_top1).toFixed(1)} %`, found.val_loss.toPrecision(3), `${(100 * found.val_top1).toFixed(1)} %`, found.lr.toPrecision(2), found.seconds === null ? "–" : found.seconds.toPrecision(3)];
    const made = document.createElement("tr");
    for (const text of cells) { const cell = document.createElement("td"); cell.className = "n"; cell.textContent = text; made.append(cell); }
    return made;
  }

  draw();
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  if (place.dataset.live) {
    const source = new EventSource(`${place.dataset.live}?after=${runs[0].rows.length}`);
    source.addEventListener("epoch", (event) => {
      const found = JSON.parse(event.data);
      if (runs[0].rows.some((one) => one.epoch === found.epoch)) return;
      if (!runs[0].rows.length) document.querySelector("#epochs tbody").replaceChildren();
      runs[0].rows.push(found);
      document.querySelector("#epochs tbody").append(row(found));
      draw();
    });
    source.addEventListener("over", () => { source.close(); location.reload(); });
  }
})();
