"use strict";
// The server's clock, countdowns by it, and live stock. Without this script all still works by reloading.
(() => {
  const words = document.getElementById("words")?.dataset ?? {};
  const lang = document.documentElement.lang || "en";
  const jitter_ms = (most) => Math.random() * most;

  // --- The server's clock: what the page said, corrected by the Date of each answer.
  let offset_ms = 0;
  const serverNow = () => Date.now() + offset_ms;

  function readClock() {
    const said = document.querySelector("[data-server-now]")?.dataset.serverNow;
    const loading = performance.getEntriesByType("navigation")[0];
    if (!said || !loading) return;
    const received = Date.now() - performance.now() + loading.responseStart;
    offset_ms = Date.parse(said) - received;
  }

  function correctClock(date, sent, received) {
    const at = Date.parse(date); // cut to the second, and up to a second older from a cache
    if (!Number.isNaN(at)) offset_ms = Math.min(Math.max(offset_ms, at - received), at + 2000 - sent);
  }

  // --- Words for those who listen: at thresholds only, never each second.
  function announce(text) {
    const announcer = document.getElementById("announcer");
    if (announcer && text) announcer.textContent = text;
  }

  const unit = (n, name) => new Intl.NumberFormat(lang, { style: "unit", unit: name, unitDisplay: "long" }).format(n);
  const spoken = (seconds) => (seconds >= 60 ? unit(Math.round(seconds / 60), "minute") : unit(seconds, "second"));

  function shown(seconds) {
    const two = (n) => String(n).padStart(2, "0");
    const days = Math.floor(seconds / 86400);
    const hours = Math.floor((seconds % 86400) / 3600);
    const rest = `${two(Math.floor((seconds % 3600) / 60))}:${two(seconds % 60)}`;
    if (days) return `${unit(days, "day")} ${two(hours)}:${rest}`;
    return hours ? `${two(hours)}:${rest}` : rest;
  }

  // --- Countdowns: [data-countdown-to] shows what is left; at zero the sale opens, or the page is read again.
  const THRESHOLDS_S = [600, 60, 10];
  const left = new WeakMap();
  const over = new WeakSet();

  function tick() {
    const waits_ms = Array.from(document.querySelectorAll("[data-countdown-to]"), count);
    setTimeout(tick, Math.min(1000, ...waits_ms));
  }

  // Shows what is left; returns the milliseconds until that changes.
  function count(element) {
    const left_ms = Math.max(0, Date.parse(element.dataset.countdownTo) - serverNow());
    if (Number.isNaN(left_ms)) return Infinity;
    const seconds = Math.ceil(left_ms / 1000);
    const before = left.get(element) ?? Infinity;
    left.set(element, seconds);
    element.textContent = shown(seconds);
    const passed = THRESHOLDS_S.some((threshold) => seconds <= threshold && before > threshold);
    if (passed && seconds > 0 && before !== Infinity) {
      announce(element.dataset.announce?.replace("{time}", spoken(seconds)));
    }
    if (seconds > 0) over.delete(element);
    else if (!over.has(element)) {
      over.add(element);
      const wait_ms = before === Infinity ? 5000 : 0; // it was over already: do not reload at full speed
      setTimeout(reachZero, wait_ms + jitter_ms(1000), element); // not all in the same millisecond
    }
    return left_ms % 1000 || 1000;
  }

  function reachZero(element) {
    const sale = element.closest("[data-sale]");
    if (element.dataset.atZero === "open" && sale) look(sale.querySelector("[data-live]"));
    else location.reload();
  }

  // --- Live stock: htmx fetches the piece of page when "look" is triggered; here is when.
  const EVERY_MS = { open: 3000, sold_out: 6000, opens: 15000, ended: 60000 };
  const MOST_MS = 30000;
  const timers = new WeakMap();
  const failures = new WeakMap();
  const sent = new WeakMap();

  const look = (live) => live && window.htmx?.trigger(live, "look");
  const lookSoon = (live, wait_ms) => {
    clearTimeout(timers.get(live));
    timers.set(live, setTimeout(() => document.hidden || look(live), wait_ms));
  };

  function lookAgain(live) {
    const failed = failures.get(live) ?? 0;
    const late = countdownOf(live) && left.get(countdownOf(live)) === 0 && stateOf(live) === "opens";
    if (!("poll" in live.dataset) && !late) return;
    const wait_ms = failed ? Math.min(2000 * 2 ** failed, MOST_MS) : late ? 1000 : EVERY_MS[stateOf(live)] ?? MOST_MS;
    lookSoon(live, wait_ms * (0.75 + jitter_ms(0.5)));
  }

  const countdownOf = (live) => live.closest("[data-sale]").querySelector("[data-at-zero=open]");
  const stateOf = (live) => live.querySelector("[data-state]")?.dataset.state;

  document.addEventListener("htmx:beforeSend", ({ detail }) => sent.set(detail.xhr, Date.now()));
  document.addEventListener("htmx:afterRequest", ({ target, detail }) => {
    if (!target.matches("[data-live]")) return;
    failures.set(target, detail.successful ? 0 : (failures.get(target) ?? 0) + 1);
    if (detail.successful) correctClock(detail.xhr.getResponseHeader("Date"), sent.get(detail.xhr), Date.now());
    else if (countdownOf(target) && left.get(countdownOf(target)) === 0) setButton(target, "open");
    lookAgain(target);
  });
  document.addEventListener("htmx:beforeSwap", ({ target }) => {
    if (target.matches("[data-live]")) before.set(target, target.querySelector("[data-state]")?.dataset);
  });
  document.addEventListener("htmx:afterSwap", ({ target }) => {
    if (target.matches("[data-live]")) show(target, before.get(target) ?? {});
  });
  const before = new WeakMap();

  function show(live, was) {
    const now = live.querySelector("[data-state]")?.dataset;
    if (!now) return;
    localTimes(live);
    setButton(live, now.state);
    const countdown = countdownOf(live);
    if (countdown && now.opensAt) countdown.dataset.countdownTo = now.opensAt;
    const line = countdown?.closest("[data-sale-countdown]");
    if (line) line.hidden = now.state !== "opens";
    if (now.state !== was.state) announce(words[`now${now.state[0].toUpperCase()}${now.state.slice(1)}`]);
    else if ([10, 3, 1].some((few) => now.available <= few && was.available > few)) {
      announce(words.few?.replace("{n}", now.available));
    }
  }

  function setButton(live, state) {
    const form = live.closest("[data-sale]").querySelector("form[data-buy]");
    const button = form?.querySelector("[data-buy-button]");
    if (!button || form.dataset.buying !== undefined) return;
    button.disabled = state !== "open";
    button.textContent = state === "open" ? words.buy : words[state];
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    for (const live of document.querySelectorAll("[data-live][data-poll]")) lookSoon(live, jitter_ms(500));
  });

  // --- Times in the visitor's own zone; the server writes UTC.
  function localTimes(root) {
    const format = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" });
    for (const time of root.querySelectorAll("time[datetime]:not([data-countdown-to])")) {
      const moment = Date.parse(time.dateTime);
      if (!Number.isNaN(moment)) time.textContent = format.format(moment);
    }
  }

  // --- A ticket: its page is read again as soon as there is more to say than "accepted".
  const ticket = document.querySelector("[data-look-again-ms]");
  const lookForOrder = () => setTimeout(async () => {
    const answer = await fetch(location.href, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer || answer.status === 202 || answer.status >= 500) lookForOrder();
    else location.reload();
  }, Number(ticket.dataset.lookAgainMs));
  if (ticket) lookForOrder();

  window.shop = {
    jitter_ms,
    look: (sale) => look(sale?.querySelector("[data-live]")),
    setButton: (sale) => {
      const live = sale?.querySelector("[data-live]");
      if (live) setButton(live, stateOf(live));
    },
  };
  readClock();
  localTimes(document);
  tick();
  for (const live of document.querySelectorAll("[data-live]")) lookAgain(live);
  window.addEventListener("pageshow", ({ persisted }) => {
    const back = performance.getEntriesByType("navigation")[0]?.type === "back_forward";
    if (persisted || back) for (const live of document.querySelectorAll("[data-live]")) lookSoon(live, jitter_ms(300));
  });
})();
