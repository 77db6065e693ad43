"use strict";
// Asks for the figures again and again while their page is looked at, and says when they are old.
(() => {
  const EVERY_MS = 4000;
  const OLD_MS = 2.5 * EVERY_MS;
  const figures = document.getElementById("figures");
  if (!figures) return;
  const age = document.getElementById("figures-age");
  const said = document.getElementById("alerts-said");
  const summary = () => figures.querySelector("[data-alerts]").dataset.alerts;
  let taken_at = performance.now();
  let announced = summary();
  let timer;

  function ask() {
    clearTimeout(timer);
    if (!document.hidden) htmx.trigger(figures, "refresh");
  }

  function sayAge() {
    const old_ms = performance.now() - taken_at;
    age.hidden = document.hidden || old_ms < OLD_MS;
    if (!age.hidden) age.textContent = age.dataset.text.replace("{n}", Math.round(old_ms / 1000));
  }

  // An answer from elsewhere is the page to log in: the session is over.
  figures.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (new URL(xhr.responseURL).pathname === figures.getAttribute("hx-get")) return;
    event.detail.shouldSwap = false;
    location.reload();
  });
  figures.addEventListener("htmx:afterSwap", () => {
    taken_at = performance.now();
    sayAge();
    if (summary() !== announced) said.textContent = announced = summary();
  });
  figures.addEventListener("htmx:afterRequest", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, EVERY_MS);
  });
  document.addEventListener("visibilitychange", ask);
  setInterval(sayAge, 1000);
  timer = setTimeout(ask, EVERY_MS);
})();
