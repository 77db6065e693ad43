"use strict";
// Draws each <canvas data-chart="ID"> from the JSON in #ID, in the colours of the admin's theme.
(() => {
  const PALETTE = {
    light: ["#1f6feb", "#c2410c", "#15803d", "#7c3aed", "#b45309", "#0e7490", "#be185d", "#4d5562"],
    dark: ["#79b8ff", "#ff9f6b", "#6fdc8c", "#c4a6ff", "#f2c14e", "#5fd4e6", "#ff8fc0", "#b8c0cc"],
  };
  const DASHES = [[], [6, 4], [2, 3], [10, 4, 2, 4]];
  const media = window.matchMedia("(prefers-color-scheme: dark)");

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen === "dark" || (chosen !== "light" && media.matches);
  }

  function dataset(series, at, chart, colours) {
    const colour = colours[at % colours.length];
    const common = { label: series.name, borderColor: colour, backgroundColor: colour, marks: series.marks };
    if (chart.kind === "bars") return { ...common, data: series.values, spread: series.spread, maxBarThickness: 96 };
    return {
      ...common,
      data: series.values.map((y, i) => ({ x: chart.labels[i], y })),
      stepped: chart.kind === "steps" ? "before" : false,
      borderDash: DASHES[Math.floor(at / colours.length) % DASHES.length],
      borderWidth: 2,
      pointStyle: (point) => (series.marks?.[point.dataIndex] ? "rectRot" : "circle"),
      pointRadius: (point) => (series.marks?.[point.dataIndex] ? 7 : chart.labels.length > 60 ? 0 : 2),
    };
  }

  // A line from the lowest to the highest value behind each bar.
  const spreads = {
    id: "spreads",
    afterDatasetsDraw(chart, _args, { ink }) {
      const { ctx, scales } = chart;
      chart.data.datasets.forEach((set, index) => {
        const meta = chart.getDatasetMeta(index);
        if (!set.spread || meta.hidden) return;
        ctx.save();
        ctx.strokeStyle = ink;
        ctx.lineWidth = 1.5;
        set.spread.forEach((range, at) => {
          if (!range) return;
          const { x } = meta.data[at];
          const [low, high] = range.map((value) => scales.y.getPixelForValue(value));
          ctx.beginPath();
          for (const y of [low, high]) { ctx.moveTo(x - 4, y); ctx.lineTo(x + 4, y); }
          ctx.moveTo(x, low);
          ctx.lineTo(x, high);
          ctx.stroke();
        });
        ctx.restore();
      });
    },
  };

  function highest(chart) {
    const all = chart.series.flatMap((series) => (series.spread ?? []).filter(Boolean).map(([, high]) => high));
    return all.length ? Math.max(...all) : undefined;
  }

  const moment = (at) => new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ");
  const DAY_S = 86400;

  // As short as it can be said on an axis that spans so many seconds.
  function tick(at, span) {
    if (span > 4 * DAY_S) return moment(at).slice(0, 10);
    return span > 600 ? moment(at).slice(5, 16) : moment(at).slice(11);
  }

  function draw(canvas) {
    const chart = JSON.parse(document.getElementById(canvas.dataset.chart).textContent);
    const dark = isDark();
    const ink = dark ? "#e6e6e6" : "#333333";
    const grid = { color: dark ? "#444444" : "#dddddd" };
    const axis = (title) => ({ title: { display: true, text: title, color: ink }, ticks: { color: ink }, grid });
    const x = { ...axis(chart.x), ...(chart.kind === "bars" ? {} : { type: chart.log_x ? "logarithmic" : "linear" }) };
    if (chart.times) {
      const span = chart.labels.at(-1) - chart.labels[0];
      x.ticks = { ...x.ticks, maxTicksLimit: 6, maxRotation: 0, callback: (at) => tick(at, span) };
    }
    if (chart.log_x) x.afterBuildTicks = (scale) => { scale.ticks = chart.labels.map((value) => ({ value })); };
    Chart.getChart(canvas)?.destroy();
    new Chart(canvas, {
      type: chart.kind === "bars" ? "bar" : "line",
      data: {
        labels: chart.kind === "bars" ? chart.labels : undefined,
        datasets: chart.series.map((series, at) => dataset(series, at, chart, PALETTE[dark ? "dark" : "light"])),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", intersect: false },
        scales: { x, y: { ...axis(chart.y), beginAtZero: true, suggestedMax: highest(chart) } },
        plugins: {
          legend: { display: chart.series.length > 1, labels: { color: ink } },
          spreads: { ink },
          tooltip: { callbacks: { ...(chart.times ? { title: ([point]) => moment(point.parsed.x) } : {}), afterLabel: ({ dataset: set, dataIndex }) => set.marks?.[dataIndex] || "" } },
        },
      },
      plugins: [spreads],
    });
  }

  function drawIn(root) {
    for (const canvas of root.querySelectorAll("canvas[data-chart]")) draw(canvas);
  }

  const redraw = () => drawIn(document);
  media.addEventListener("change", redraw);
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  document.addEventListener("htmx:afterSwap", (event) => drawIn(event.target));
  redraw();
})();
