// Curves: every element with `data-charts` asks that address for charts and draws them with uPlot, again as they grow.
"use strict";

(() => {
  const POLL_MILLISECONDS = 2000;
  const HEIGHT = 190;
  const COLOURS = ["--curve-1", "--curve-2", "--curve-3", "--curve-4"];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const format = (value) => {
    if (value == null) return "–";
    const size = Math.abs(value);
    return size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(5)));
  };

  // On a logarithmic axis uPlot leaves out most labels, and rounds small ones to 0.
  const showPowers = (_, values) => values.map((value) => (value == null ? "" : format(value)));

  const describe = (chart, width) => {
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const xName = chart.is_time ? {} : { label: chart.x_label, value: (_, value) => format(value) };
    const curves = chart.labels.map((label, index) => ({
      label,
      stroke: colour(COLOURS[index % COLOURS.length]),
      width: 1.8,
      spanGaps: true,
      // Requests at the same moment have nothing to do with each other: points without a line between them.
      ...((chart.is_time || chart.is_scatter) && { paths: () => null }),
      // A curve of few points would be a line between nothing to see.
      points: { show: chart.is_time || chart.is_scatter || chart.data[index + 1].filter((value) => value != null).length < 30, size: 5 },
      value: (_, value) => format(value),
    }));
    return {
      width,
      height: HEIGHT,
      scales: { x: { time: chart.is_time, distr: chart.is_log ? 3 : 1 } },
      cursor: { y: false },
      legend: { live: true },
      series: [xName, ...curves],
      axes: [{ ...axis, size: chart.is_time ? 46 : 32, ...(chart.is_log && { values: showPowers }) }, { ...axis, size: 62, values: (_, values) => values.map(format) }],
    };
  };

  const makeFigure = () => {
    const figure = document.createElement("figure");
    figure.className = "card";
    figure.append(document.createElement("h2"), document.createElement("div"), document.createElement("figcaption"));
    return figure;
  };

  class Charts {
    constructor(place) {
      this.place = place;
      this.newest = 0;
      this.drawn = new Map();
      new ResizeObserver(() => this.resize()).observe(place);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
      document.addEventListener("visibilitychange", () => { if (!document.hidden && this.resting) this.look(); });
      this.look();
    }

    async look() {
      this.resting = document.hidden;
      if (this.resting) return;
      const started = performance.now();
      const isFinished = await this.ask().catch(() => false);
      // A run so long that reading it takes a while is asked for less often.
      const took = performance.now() - started;
      if (!isFinished) setTimeout(() => this.look(), Math.max(POLL_MILLISECONDS, 10 * took));
    }

    async ask() {
      const response = await fetch(`${this.place.dataset.charts}?after=${this.newest}`);
      if (!response.ok || response.status === 204) return false;
      const answer = await response.json();
      this.newest = answer.newest;
      answer.charts.forEach((chart) => this.show(chart));
      return answer.is_finished;
    }

    show(chart) {
      const known = this.drawn.get(chart.title);
      const figure = known?.figure ?? this.place.appendChild(makeFigure());
      const [title, canvas, caption] = figure.children;
      title.textContent = chart.title;
      caption.textContent = chart.caption;
      figure.classList.toggle("single", chart.labels.length === 1);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${chart.title}: ${chart.caption}`);
      if (known && known.chart.labels.length === chart.labels.length) {
        known.chart = chart;
        known.plot.setData(chart.data);
        return;
      }
      known?.plot.destroy();
      this.drawn.set(chart.title, { figure, chart, plot: new uPlot(describe(chart, canvas.clientWidth), chart.data, canvas) });
    }

    resize() {
      for (const { figure, plot } of this.drawn.values()) plot.setSize({ width: figure.children[1].clientWidth, height: HEIGHT });
    }

    redraw() {
      for (const { figure, chart, plot } of this.drawn.values()) {
        plot.destroy();
        const canvas = figure.children[1];
        this.drawn.get(chart.title).plot = new uPlot(describe(chart, canvas.clientWidth), chart.data, canvas);
      }
    }
  }

  document.querySelectorAll("[data-charts]").forEach((place) => new Charts(place));
})();
