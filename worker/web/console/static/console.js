// A little help where there is JavaScript; every page works without.

const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

// Times are shown in the browser's zone from the next page on.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `withdrawals_zone=${zone}; path=/console; samesite=lax; max-age=31536000`;

// A form is sent once: a second click, while the first is on its way, does nothing.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => each("form[data-sent]", (form) => delete form.dataset.sent));

// Select all rows of a list: <input type="checkbox" data-select-all="enrolment_ids">.
each("[data-select-all]", (all) => {
  const boxes = () => document.querySelectorAll(`input[type=checkbox][name="${all.dataset.selectAll}"]`);
  all.addEventListener("change", () => boxes().forEach((box) => { box.checked = all.checked; }));
  all.hidden = false;
});

// A job is followed by server-sent events (<div data-live="…/events">): numbers come with each, and the parts of the page
// that say more ([data-part]) are fetched again when the state or the outcomes are others. The rate is that of the last
// half minute. Whatever is restarted meanwhile, the stream is opened again; a session that is over leads to the sign-in.
each("[data-live]", (page) => {
  const every = 3000, samples = [];
  let stream, loading = false, again = false;
  const number = (value) => value.toLocaleString("en-GB");
  const show = (name, text) => page.querySelectorAll(`[data-show="${name}"]`).forEach((shown) => { shown.textContent = text; });
  const span = (seconds) => {
    for (const [least, unit, name] of [[172800, 86400, "days"], [7200, 3600, "h"], [120, 60, "min"]]) {
      if (seconds >= least) return `${Math.floor(seconds / unit)} ${name}`;
    }
    return `${Math.ceil(seconds)} s`;
  };

  const tell = (job) => {
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
      setTimeout(load, every); // it is being restarted
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
    stream.addEventListener("progress", (event) => tell(JSON.parse(event.data)));
    stream.addEventListener("end", () => { stream.close(); load(); });
    stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) setTimeout(load, every); });
  };
  open();
});

// What is under way is looked at again by itself; the page is loaded anew once it has ended: <p id="run" data-again="1000">.
each("[data-again]", (part) => {
  const look = async () => {
    const answer = document.hidden ? null : await fetch(location.href).catch(() => null);
    if (answer?.redirected) return location.reload();
    const page = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    const fresh = page?.getElementById(part.id);
    if (page && !fresh?.dataset.again) return location.reload();
    if (fresh) part.replaceChildren(...fresh.childNodes);
    setTimeout(look, Number(part.dataset.again));
  };
  setTimeout(look, Number(part.dataset.again));
});
