"use strict";
// Draws the figures of the page with uPlot, in the colours of the page's style.
const charts = (() => {
  const figures = JSON.parse(document.getElementById("data").textContent).figures;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const PALETTE = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
  const paint = (number) => () => colour(PALETTE[number % PALETTE.length]);
  const short = (value) => (value == null ? "–" : String(Number(value.toPrecision(6))));
  const wide = matchMedia("(prefers-color-scheme: dark)");
  const all = [];

  const axis = (more) => ({
    stroke: () => colour("text"),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { stroke: () => colour("line"), width: 1 },
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    labelSize: 18,
    labelGap: 2,
    ...more,
  });

  // Resumes as dashed lines, the best as a ring with its word.
  function marks(figure) {
    return (plot) => {
      const context = plot.ctx;
      const { left, top, width, height } = plot.bbox;
      const ratio = devicePixelRatio;
      context.save();
      context.font = `${12 * ratio}px system-ui, sans-serif`;
      context.lineWidth = 1.5 * ratio;
      const write = (word, x, y) => {
        const room = context.measureText(word).width + 8 * ratio;
        context.textAlign = x + room > left + width ? "right" : "left";
        context.fillText(word, x + (context.textAlign === "left" ? 6 : -6) * ratio, y);
      };
      context.strokeStyle = context.fillStyle = colour("dim");
      context.setLineDash([4 * ratio, 4 * ratio]);
      figure.resumes.forEach((place, number) => {
        const x = plot.valToPos(place, "x", true);
        if (x < left || x > left + width) return;
        context.beginPath();
        context.moveTo(x, top);
        context.lineTo(x, top + height);
        context.stroke();
        if (number === 0) write(figure.word, x, top + height - 6 * ratio);
      });
      context.setLineDash([]);
      const at = figure.best ? figure.x.indexOf(figure.best.x) : -1;
      const value = at < 0 ? null : plot.data[1][at];
      if (value != null) {
        const x = plot.valToPos(figure.best.x, "x", true);
        const y = plot.valToPos(value, "y", true);
        if (x >= left && x <= left + width) {
          context.strokeStyle = context.fillStyle = colour("text");
          context.beginPath();
          context.arc(x, y, 6 * ratio, 0, 2 * Math.PI);
          context.stroke();
          write(`${figure.best.word} ${short(value)}`, x, Math.max(top + 12 * ratio, y - 10 * ratio));
        }
      }
      context.restore();
    };
  }

  function lines(figure) {
    const shown = figure.x.length < 60;
    return {
      options: {
        height: 260,
        scales: { x: { time: false } },
        series: [
          { label: figure.axis, value: (plot, value, series, index) => (index == null ? "–" : figure.shown[index]) },
          ...figure.series.map((each, number) => ({
            label: each.label,
            stroke: paint(each.colour ?? number),
            width: each.dashed ? 1 : 2,
            dash: each.dashed ? [6, 4] : undefined,
            points: { show: shown, size: 5 },
            spanGaps: true,
            value: (plot, value) => short(value),
          })),
        ],
        axes: [
          axis({
            label: figure.axis,
            size: 34,
            values: (plot, splits) => splits.map((value) => tick(figure, value)),
          }),
          axis({ size: 64, values: (plot, splits) => splits.map(short) }),
        ],
        hooks: { draw: [marks(figure)] },
      },
      data: [figure.x, ...figure.series.map((each) => each.values)],
    };
  }

  function tick(figure, value) {
    if (figure.log) return Number.isInteger(value) ? (10 ** value).toLocaleString("en") : "";
    return Number.isInteger(value) ? (Math.abs(value) < 1e7 ? value.toLocaleString("en") : value.toExponential(1)) : "";
  }

  function bars(figure) {
    const places = figure.counts.map((count, number) => number + 0.5);
    const last = figure.counts.length;
    return {
      options: {
        height: 170,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false, range: [0, last] }, y: { range: (plot, low, high) => [0, high * 1.05 || 1] } },
        series: [
          {},
          {
            stroke: paint(0),
            fill: paint(0),
            width: 0,
            points: { show: false },
            paths: uPlot.paths.bars({ size: [1, Infinity], gap: 1 }),
          },
        ],
        axes: [
          axis({
            size: 30,
            splits: [0, last / 2, last],
            values: () => figure.labels,
          }),
          axis({ size: 56, values: (plot, splits) => splits.map((value) => value.toLocaleString("en")) }),
        ],
      },
      data: [places, figure.counts],
    };
  }

  // The runs that are chosen, each with its own steps, over one axis.
  function overlay(figure, chosen) {
    const runs = chosen.map((number) => figure.runs[number]);
    const tables = runs.map((run) => [run.x, run.y]);
    const data = tables.length ? uPlot.join(tables) : [[0, 1]];
    return {
      options: {
        height: 320,
        scales: { x: { time: false } },
        series: [
          { label: figure.axis, value: (plot, value) => (value == null ? "–" : value.toLocaleString("en")) },
          ...runs.map((run, number) => ({
            label: run.name,
            stroke: paint(number),
            width: 2,
            dash: number < PALETTE.length ? undefined : [6, 4],
            points: { show: run.x.length < 40, size: 5 },
            spanGaps: true,
            value: (plot, value) => short(value),
          })),
        ],
        axes: [
          axis({ label: figure.axis, size: 34, values: (plot, splits) => splits.map((value) => tick(figure, value)) }),
          axis({ label: figure.label, size: 64, values: (plot, splits) => splits.map(short) }),
        ],
      },
      data,
    };
  }

  function draw(place, made) {
    const width = () => Math.max(200, Math.floor(place.clientWidth));
    place.replaceChildren();
    const plot = new uPlot({ width: width(), ...made.options }, made.data, place);
    plot.root.setAttribute("aria-hidden", "true");
    for (const old of all.filter((each) => each.place === place)) all.splice(all.indexOf(old), 1);
    all.push({ place, plot, width });
    return plot;
  }

  const makers = { lines, bars, overlay: (figure) => overlay(figure, []) };
  for (const place of document.querySelectorAll("[data-figure]")) {
    const figure = figures[Number(place.dataset.figure)];
    draw(place, makers[figure.kind](figure));
  }
  wide.addEventListener("change", () => all.forEach(({ plot }) => plot.redraw(false, true)));
  new ResizeObserver(() =>
    all.forEach(({ plot, width }) => plot.width === width() || plot.setSize({ width: width(), height: plot.height }))
  ).observe(document.getElementById("main"));
  return { figures, overlay: (place, chosen) => draw(place, overlay(figures[0], chosen)) };
})();
