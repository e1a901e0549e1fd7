// What pages do beyond plain HTML; everything works without it.
"use strict";

// A choice that takes effect at once needs no button.
for (const choice of document.querySelectorAll("[data-submits]")) {
  choice.addEventListener("change", () => choice.form.requestSubmit());
  choice.form.querySelectorAll("[data-unscripted]").forEach((button) => { button.hidden = true; });
}

// A slider beside a time: it stands where the time is, and writes the time where it stands.
for (const slider of document.querySelectorAll("input[type=range][data-sets]")) {
  const field = document.getElementById(slider.dataset.sets);
  const first = Date.parse(slider.dataset.first), last = Date.parse(slider.dataset.last);
  if (!field || !(last > first)) continue;
  slider.min = 0;
  slider.max = 1000;
  const place = () => {
    const time = field.value ? Date.parse(field.value) : last;
    slider.value = Number.isNaN(time) ? 1000 : Math.round((time - first) / (last - first) * 1000);
    slider.setAttribute("aria-valuetext", field.value || "now");
  };
  slider.addEventListener("input", () => {
    const time = new Date(first + (last - first) * slider.value / 1000);
    time.setUTCMinutes(0, 0, 0);
    field.value = slider.value === "1000" ? "" : time.toISOString().replace(".000Z", "Z");
    slider.setAttribute("aria-valuetext", field.value || "now");
  });
  slider.addEventListener("change", () => slider.form.requestSubmit());
  field.addEventListener("change", place);
  slider.hidden = false;
  place();
}

// A change that cannot be taken back is asked about once more.
for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => { if (!window.confirm(form.dataset.confirm)) event.preventDefault(); });
}

// Charts: drawn by Plotly in the style sheet's colours, and again when those change.
const plots = document.querySelectorAll("[data-figure]");
const draw = () => {
  const style = getComputedStyle(document.documentElement);
  const paint = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map(paint);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, paint(one)]));
    return value;
  };
  const axis = { gridcolor: "--line", linecolor: "--line", zerolinecolor: "--line", automargin: true, fixedrange: true };
  for (const plot of plots) {
    const figure = JSON.parse(plot.dataset.figure);
    const layout = {
      ...figure.layout,
      height: 300, margin: { l: 8, r: 8, t: 8, b: 8 }, font: { family: "inherit", color: "--ink", size: 12 },
      paper_bgcolor: "transparent", plot_bgcolor: "transparent", dragmode: false,
      legend: { orientation: "h", y: -0.2 }, hoverlabel: { bgcolor: "--raised", bordercolor: "--line", font: { color: "--ink" } },
      xaxis: { ...axis, ...figure.layout.xaxis }, yaxis: { ...axis, ...figure.layout.yaxis },
    };
    window.Plotly.react(plot, paint(figure.data), paint(layout), { displayModeBar: false, responsive: true });
  }
};
if (plots.length) {
  const library = document.createElement("script");
  library.src = plots[0].dataset.library;
  // Plotly brings a style sheet for maps, which the content policy refuses; it leaves it out where it finds this id.
  library.id = "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53";
  library.addEventListener("load", draw);
  library.addEventListener("error", () => document.querySelectorAll(".chart details").forEach((one) => { one.open = true; }));
  document.head.append(library);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
