// Enhancements. Every page works without JavaScript.

const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

// Sentences come with the page, in its language; {names} in them are filled in here.
const filled = (sentence, values) => sentence.replace(/{(\w+)}/g, (_, name) => values[name]);
const { lang } = document.documentElement;

// From the next page on, times are in the browser's time zone.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `withdrawals_zone=${zone}; path=/console; samesite=lax; max-age=31536000`;

// What only works with this script is shown from now on; its place was kept.
document.documentElement.classList.add("script");

// Light or dark: the server reads the cookie, so that the next page does not flash. Without this script a form does it.
each("[data-theme-switch] button", (button) => button.addEventListener("click", (event) => {
  event.preventDefault();
  const { value } = button, root = document.documentElement;
  document.cookie = `withdrawals_theme=${value}; path=/console; samesite=lax; max-age=${value === "system" ? 0 : 31536000}`;
  if (value === "system") delete root.dataset.theme; else root.dataset.theme = value;
  document.querySelector('meta[name="color-scheme"]').content = value === "system" ? "light dark" : value;
  each("[data-theme-switch] button", (one) => one.setAttribute("aria-pressed", String(one === button)));
}));

// A few words at the foot of the page, for what has no other trace.
const toast = (text) => {
  document.querySelector(".toast")?.remove();
  const shown = document.createElement("p");
  shown.className = "toast";
  shown.setAttribute("role", "status");
  document.body.append(shown);
  shown.textContent = text;
  setTimeout(() => shown.remove(), 4000);
};

// <button data-copy="…"> copies a text; <button data-dismiss> closes the message that it stands in.
document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const done = await navigator.clipboard?.writeText(copy.dataset.copy).then(() => true, () => false);
    toast(done ? document.body.dataset.copied : document.body.dataset.notCopied);
  }
  event.target.closest("[data-dismiss]")?.closest(".notice").remove();
});

// <input type="url" data-origin="http://…">: what is typed stands in place of this origin wherever the page shows or copies an address.
each("input[data-origin]", (field) => {
  const { origin } = field.dataset, places = [];
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node; (node = texts.nextNode());) if (node.data.includes(origin)) places.push([node, "data", node.data]);
  each("[data-copy]", (button) => places.push([button.dataset, "copy", button.dataset.copy]));
  field.addEventListener("input", () => {
    const typed = field.value && field.validity.valid ? new URL(field.value).origin : origin;
    for (const [part, key, said] of places) part[key] = said.replaceAll(origin, typed);
  });
});

// A link of `withdrawals up` has its code behind the `#`, which no server sees. A page that is only made ready waits.
each("form[data-code]", (form) => {
  const code = location.hash.slice(1);
  if (!code) return;
  history.replaceState(null, "", location.pathname);
  form.elements.code.value = code;
  const send = () => form.requestSubmit();
  if (document.prerendering) document.addEventListener("prerenderingchange", send, { once: true }); else send();
});

// A form is sent once: while it is on its way, a second click does nothing.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => each("form[data-sent]", (form) => delete form.dataset.sent));

// What was typed is there again when somebody comes back: <table data-typed>. Browsers bring back what a form has by themselves, but
// not fields without autocomplete, which keep it out of their own lists. By their labels: the rows may be others by then.
each("[data-typed]", (part) => {
  const fields = [...part.querySelectorAll("input[autocomplete=off][aria-label]")], kept = history.state?.typed ?? {};
  for (const field of fields) field.value = kept[field.ariaLabel] ?? field.value;
  part.addEventListener("change", () =>
    history.replaceState({ typed: Object.fromEntries(fields.map((field) => [field.ariaLabel, field.value])) }, ""));
});

// Rows of a list are selected: <table data-select="enrolment_ids">. One box selects the page, Shift selects up to the last
// one, and the choice is kept through the pages of the list until it is sent or cleared. Without JavaScript: each page alone.
// A table that is loaded again is made selectable again, in place of the one before.
const selecting = new WeakMap();
const makeSelectable = (table) => {
  if (table.dataset.form && !document.getElementById(table.dataset.form)) return;
  const name = table.dataset.select, most = Number(table.dataset.most), form = table.closest("form") ?? document.getElementById(table.dataset.form);
  const address = new URL(location.href);
  for (const once of ["cursor", "unticked"]) address.searchParams.delete(once);
  const place = `selected ${address.pathname}${address.search}`;
  const boxes = [...table.querySelectorAll(`tbody input[name="${name}"]`)], all = table.querySelector("[data-select-all]");
  const bar = form.querySelector("[data-selected]"), count = bar.querySelector("output"), clear = bar.querySelector("button");
  const chosen = new Set(JSON.parse(sessionStorage.getItem(place) ?? "[]"));
  selecting.get(form)?.abort();
  selecting.set(form, new AbortController());
  const { signal } = selecting.get(form);
  let last = null;

  const show = () => {
    boxes.forEach((box) => { box.checked = chosen.has(box.value); });
    const here = boxes.filter((box) => box.checked).length;
    all.checked = here > 0 && here === boxes.length;
    all.indeterminate = here > 0 && here < boxes.length;
    const more = chosen.size - here;
    const said = chosen.size > most ? bar.dataset.tooMany : more ? bar.dataset.elsewhere : chosen.size ? bar.dataset.some : "";
    count.textContent = filled(said, { count: chosen.size, more, most });
    clear.hidden = !chosen.size;
    sessionStorage.setItem(place, JSON.stringify([...chosen]));
  };
  const set = (box, on) => { if (on) chosen.add(box.value); else chosen.delete(box.value); };

  boxes.forEach((box, at) => box.addEventListener("click", (event) => {
    const [from, to] = event.shiftKey && last !== null ? [Math.min(last, at), Math.max(last, at)] : [at, at];
    boxes.slice(from, to + 1).forEach((one) => set(one, box.checked));
    last = at;
    show();
  }));
  all.addEventListener("change", () => { boxes.forEach((box) => set(box, all.checked)); show(); });
  clear.addEventListener("click", () => { chosen.clear(); show(); }, { signal });
  form.addEventListener("formdata", (event) => {
    if (event.formData.get("what") === "all") return event.formData.delete(name);
    const here = new Set(boxes.map((box) => box.value));
    for (const id of chosen) if (!here.has(id)) event.formData.append(name, id);
  }, { signal });
  form.addEventListener("submit", (event) => {
    if (chosen.size > most && new FormData(form, event.submitter).get("what") !== "all") event.preventDefault();
  }, { signal });
  all.hidden = false;
  show();
};
each("table[data-select]", makeSelectable);
each("form[data-unselect]", (form) => form.addEventListener("submit", () => { // what was sent is not selected any more
  for (const key of Object.keys(sessionStorage)) if (key.startsWith("selected ")) sessionStorage.removeItem(key);
}));

// Find anything: ⌘K or Ctrl+K opens the search over the page. Its link leads to a page that does the same.
each("[data-find]", (link) => {
  const dialog = document.getElementById("find-dialog").content.firstElementChild.cloneNode(true);
  const field = dialog.querySelector("input"), list = dialog.querySelector(".found");
  const hint = link.querySelector("kbd");
  hint.textContent = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘K" : "Ctrl K";
  hint.hidden = false;
  let timer, shown = "";

  const look = async () => {
    const words = field.value.trim();
    const answer = words && await fetch(`${link.href}?${new URLSearchParams({ q: words })}`).catch(() => null);
    if (words !== field.value.trim()) return; // typed on
    if (answer?.redirected) return location.reload();
    if (words && !answer?.ok) return;
    const page = words && new DOMParser().parseFromString(await answer.text(), "text/html");
    list.replaceChildren(...(page ? page.getElementById("found").childNodes : []));
    shown = words;
  };
  const open = () => {
    if (!dialog.isConnected) document.body.append(dialog);
    if (!dialog.open) dialog.showModal();
    field.select();
  };

  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 120); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")], at = links.indexOf(document.activeElement);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const next = at + (event.key === "ArrowDown" ? 1 : -1);
      if (next < 0) field.focus(); else links[Math.min(next, links.length - 1)]?.focus();
    } else if (event.key === "Escape") {
      dialog.close(); // in a search field the key would only empty it
    } else if (event.key === "Enter" && document.activeElement === field && links.length && shown === field.value.trim()) {
      event.preventDefault();
      links[0].click();
    }
  });
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    event.preventDefault();
    open();
  });
});

// One key goes on to the next letter and one back: <a data-key="j">. Not while somebody types, or a dialog is open.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`)?.click();
});

// Server-sent events show a job's progress (<div data-live="…/events">). Each event brings the numbers. When the state or the
// list of outcomes changes, the other parts of the page ([data-part]) are loaded again. The rate is that of the last half
// minute. A broken stream is opened again; an expired session leads to the sign-in page.
each("[data-live]", (page) => {
  const every = 3000, samples = [];
  let stream, loading = false, again = false;
  const number = (value) => value.toLocaleString(lang);
  const days = new Intl.NumberFormat(lang, { style: "unit", unit: "day", unitDisplay: "long" });
  const show = (name, text) => page.querySelectorAll(`[data-show="${name}"]`).forEach((shown) => { shown.textContent = text; });
  const span = (seconds) => {
    if (seconds >= 172800) return days.format(Math.floor(seconds / 86400));
    for (const [least, unit, name] of [[7200, 3600, "h"], [120, 60, "min"]]) {
      if (seconds >= least) return `${Math.floor(seconds / unit)} ${name}`;
    }
    return `${Math.ceil(seconds)} s`;
  };

  const showProgress = (job) => {
    const decided = job.accepted - job.in_flight, now = performance.now() / 1000;
    samples.push([now, decided]);
    while (now - samples[0][0] > 30) samples.shift();
    page.querySelectorAll('[data-show="bar"]').forEach((bar) => { bar.max = job.accepted || 1; bar.value = decided; });
    show("decided", number(decided));
    show("accepted", number(job.accepted));
    const took = now - samples[0][0], rate = took >= 1 ? (decided - samples[0][1]) / took : 0;
    if (took >= 1) show("rate", rate >= 1 ? number(Math.round(rate)) : "—");
    if (took >= 1) show("left", rate >= 1 ? span(job.in_flight / rate) : "—");
    let known = job.state === page.dataset.state;
    for (const [outcome, count] of Object.entries(job.outcomes)) {
      const cell = page.querySelector(`[data-outcome="${outcome}"]`);
      if (cell) cell.textContent = number(count); else known = false;
    }
    if (!known) load();
  };

  const load = async () => {
    if (loading) return void (again = true);
    loading = true;
    try {
      const answer = await fetch(location.href);
      if (answer.redirected || answer.status === 404) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      again = false;
      setTimeout(load, every); // the service is restarting
    }
    loading = false;
    if (again) { again = false; load(); }
  };

  const swap = (fresh) => {
    const other = fresh.querySelector(".follow");
    page.dataset.state = other.dataset.state;
    document.title = fresh.title;
    page.querySelectorAll("[data-part]").forEach((part) => {
      const now = other.querySelector(`[data-part="${part.dataset.part}"]`).innerHTML;
      if (now === part.innerHTML) return;
      const focused = part.contains(document.activeElement);
      part.innerHTML = now;
      if (focused) document.getElementById("main").focus();
    });
    if (!other.dataset.live) stream.close();
    else if (stream.readyState === EventSource.CLOSED) open();
  };

  const open = () => {
    stream = new EventSource(page.dataset.live);
    stream.addEventListener("progress", (event) => showProgress(JSON.parse(event.data)));
    stream.addEventListener("end", () => { stream.close(); load(); });
    stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) setTimeout(load, every); });
  };
  open();
});

// A part that is loaded again stays as it is while somebody uses it: has the focus in it, has scrolled a table, or selects text.
const inUse = (part) => part.contains(document.activeElement) || (!getSelection().isCollapsed && getSelection().containsNode(part, true))
  || [...part.querySelectorAll(".scroll")].some((table) => table.scrollLeft > 0);

// A part of the page is loaded again every so many milliseconds, and the whole page at the end: <p id="run" data-again="1000">. What
// belongs to it elsewhere comes along: <span id="state" data-with="run">. What is shown only once ([data-once]) keeps its page.
each("[data-again]", (part) => {
  const look = async () => {
    const answer = document.hidden ? null : await fetch(location.href).catch(() => null);
    if (answer?.redirected) return location.reload();
    const page = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    const fresh = page?.getElementById(part.id);
    const ended = page && !fresh?.dataset.again;
    if (ended && !(fresh && document.querySelector("[data-once]"))) return location.reload();
    if (fresh && !inUse(part)) {
      part.replaceChildren(...fresh.childNodes);
      each(`[data-with="${part.id}"]`, (one) => one.replaceChildren(...page.getElementById(one.id).childNodes));
      part.querySelectorAll("table[data-select]").forEach(makeSelectable);
      if (ended) return;
    }
    setTimeout(look, Number(part.dataset.again));
  };
  setTimeout(look, Number(part.dataset.again));
});

// A Series is picked from a list that the words typed so far find: <input data-pick="address of a page with #found">. The arrow
// keys choose, Enter takes, Escape closes. Without JavaScript the form asks back for what it does not know.
each("[data-pick]", (field) => {
  const list = document.createElement("ul");
  list.id = `picks-${field.name}`;
  list.role = "listbox";
  list.ariaLabel = "Series";
  list.hidden = true;
  field.closest(".pick").append(list);
  for (const [name, value] of [["role", "combobox"], ["aria-controls", list.id], ["aria-autocomplete", "list"], ["aria-expanded", "false"]]) field.setAttribute(name, value);
  let timer, at = -1;
  const options = () => [...list.children];

  const open = (shown) => {
    list.hidden = !shown;
    field.setAttribute("aria-expanded", String(shown));
    if (!shown) field.removeAttribute("aria-activedescendant");
    at = -1;
  };
  const mark = (next) => {
    const all = options();
    at = (next + all.length) % all.length;
    all.forEach((one, place) => one.setAttribute("aria-selected", String(place === at)));
    all[at].scrollIntoView({ block: "nearest" });
    field.setAttribute("aria-activedescendant", all[at].id);
  };
  const take = (option) => { field.value = option.dataset.value; open(false); };
  const look = async () => {
    const words = field.value.trim();
    const answer = words && await fetch(`${field.dataset.pick}?${new URLSearchParams({ q: words })}`).catch(() => null);
    if (words !== field.value.trim() || document.activeElement !== field) return; // typed on, or left
    if (answer?.redirected) return location.reload();
    const page = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    list.replaceChildren(...[...page?.querySelectorAll("#found a") ?? []].map((link, place) => {
      const option = document.createElement("li");
      option.id = `${list.id}-${place}`;
      option.role = "option";
      option.dataset.value = link.dataset.value;
      option.append(...link.childNodes);
      option.addEventListener("mousedown", (event) => { event.preventDefault(); take(option); });
      return option;
    }));
    open(list.children.length > 0);
  };

  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 150); });
  field.addEventListener("blur", () => open(false));
  field.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      mark(event.key === "ArrowDown" ? at + 1 : Math.max(at, 0) - 1);
    } else if (event.key === "Enter" && at >= 0) {
      event.preventDefault();
      take(options()[at]);
    } else if (event.key === "Escape") {
      open(false);
    }
  });
});
