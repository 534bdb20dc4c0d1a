// A little help where there is JavaScript; every page works without.

const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

// Times are shown in the browser's zone from the next page on.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `withdrawals_zone=${zone}; path=/console; samesite=lax; max-age=31536000`;

// A form is sent once: a second click, while the first is on its way, does nothing.
each("form[method=post]", (form) => {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
});
window.addEventListener("pageshow", () => each("form[data-sent]", (form) => delete form.dataset.sent));

// Select all rows of a list: <input type="checkbox" data-select-all="enrolment_ids">.
each("[data-select-all]", (all) => {
  const boxes = () => document.querySelectorAll(`input[type=checkbox][name="${all.dataset.selectAll}"]`);
  all.addEventListener("change", () => boxes().forEach((box) => { box.checked = all.checked; }));
  all.hidden = false;
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
