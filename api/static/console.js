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
