"use strict";
// One click, one purchase: every try of it sends the same key, until there is an order or a refusal.
(() => {
  const words = document.getElementById("words").dataset;
  const MOST_TRIES = 8;
  const ANSWER_WITHIN_MS = 15000;
  const MOST_WAIT_S = 30;

  // --- The key: it belongs to one visit of the page, so reloading and going back ask for the same purchase.
  // The tab keeps it too, so that a purchase of which nobody knows yet is found by the next visit.
  const place = (form) => `buy:${form.dataset.buy}`;

  function recall(form) {
    try {
      return JSON.parse(sessionStorage.getItem(place(form))) ?? {};
    } catch {
      return {};
    }
  }

  function keep(form, ordered) {
    const key = form.elements.key.value;
    history.replaceState({ ...history.state, [place(form)]: key }, "");
    try {
      sessionStorage.setItem(place(form), JSON.stringify({ key, ordered }));
    } catch {
      // Without storage the key in the page still serves until it is left.
    }
  }

  function freshKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }

  function settleKey(form) {
    const ofThisVisit = history.state?.[place(form)];
    const known = recall(form);
    if ("keepKey" in form.dataset) keep(form, false);
    else if (ofThisVisit) form.elements.key.value = ofThisVisit;
    else {
      if (known.key && !known.ordered) form.elements.key.value = known.key;
      keep(form, false);
    }
  }

  // --- One try.
  async function ask(form, body) {
    let response;
    try {
      response = await fetch(form.action, {
        method: "POST",
        body,
        headers: { Accept: "application/json" },
        signal: AbortSignal.timeout?.(ANSWER_WITHIN_MS),
      });
    } catch {
      return { again: navigator.onLine ? "unknown" : "offline" };
    }
    if (response.redirected && response.ok) return { page: response.url };
    const answer = await response.json().catch(() => null);
    const wait_s = Number(response.headers.get("Retry-After")) || 0;
    if (response.ok && answer?.order) {
      return { page: response.headers.get("Location") ?? `${words.orders}${answer.order}/` };
    }
    if (answer?.code === "busy" || answer?.code === "paused") return { again: answer.code, wait_s };
    if (response.status === 429) return { ...answer, again: wait_s <= MOST_WAIT_S && "rate_limited", wait_s };
    if (!answer?.code || response.ok || (response.status === 503 && wait_s)) return { again: "unknown", wait_s };
    return { ...answer, definite: response.status < 500 && answer.code !== "csrf" };
  }

  // --- A purchase: tries with one key, politely, until it is settled.
  async function buy(form) {
    const body = new URLSearchParams(new FormData(form));
    begin(form);
    for (let tries = 1; ; tries++) {
      const answer = await ask(form, body);
      if (answer.page) {
        keep(form, true);
        location.assign(answer.page);
        return;
      }
      if (!answer.again) return refuse(form, answer);
      if (answer.again === "offline") tries--;
      if (tries >= MOST_TRIES) return giveUp(form, answer);
      status(form, words[answer.again]);
      await pause(answer, tries);
    }
  }

  function pause({ again, wait_s = 0 }, tries) {
    const seconds = Math.min(Math.max(wait_s, 2 ** (tries - 1) / 2), MOST_WAIT_S);
    return new Promise((resume) => {
      const wait_ms = seconds * 1000 + window.shop.jitter_ms(1000);
      const timer = again === "offline" ? setTimeout(done, 10000) : setTimeout(done, wait_ms);
      function done() {
        clearTimeout(timer);
        window.removeEventListener("online", done);
        resume();
      }
      window.addEventListener("online", done);
    });
  }

  // --- What the shopper sees of it.
  const saleOf = (form) => form.closest("[data-sale]");
  const buttonOf = (form) => form.querySelector("[data-buy-button]");

  function status(form, text) {
    saleOf(form).querySelector("[data-buy-status]").textContent = text;
  }

  function begin(form) {
    saleOf(form).querySelector("[data-notice]")?.remove();
    form.dataset.buying = buttonOf(form).textContent;
    buttonOf(form).textContent = words.buying;
    buttonOf(form).setAttribute("aria-busy", "true");
    buttonOf(form).disabled = true;
  }

  function end(form) {
    if (form.dataset.buying === undefined) return;
    buttonOf(form).textContent = form.dataset.buying;
    buttonOf(form).removeAttribute("aria-busy");
    buttonOf(form).disabled = false;
    delete form.dataset.buying;
    status(form, "");
    window.shop.setButton(saleOf(form));
  }

  function refuse(form, answer) {
    end(form);
    if (answer.definite) {
      form.elements.key.value = freshKey();
      keep(form, false);
    }
    notice(form, answer.detail ?? answer.title, answer);
    window.shop.look(saleOf(form));
  }

  function giveUp(form, { again }) {
    end(form);
    if (again === "unknown") notice(form, words.stillUnknown, { code: "outcome_unknown" });
    else notice(form, words.stillBusy, { code: "busy" });
  }

  const NEXT = { key_reused: "limit_reached", outcome_unknown: "limit_reached", error: "limit_reached" };

  function notice(form, text, { code, queue }) {
    const box = document.createElement("div");
    box.className = "notice";
    box.dataset.notice = "";
    box.tabIndex = -1;
    box.setAttribute("role", "alert");
    const sentence = document.createElement("p");
    sentence.textContent = text;
    box.append(sentence);
    const next = document.querySelector(`template[data-next="${NEXT[code] ?? code}"]`);
    if (next) box.append(next.content.cloneNode(true));
    if (queue) box.querySelector("a").href = queue;
    form.before(box);
    box.focus();
  }

  for (const form of document.querySelectorAll("form[data-buy]")) {
    settleKey(form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (form.dataset.buying === undefined) buy(form);
    });
  }
  window.addEventListener("pageshow", ({ persisted }) => {
    if (persisted) document.querySelectorAll("form[data-buy]").forEach(end);
  });
})();
