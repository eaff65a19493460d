// Times in the browser's time zone. The daemon writes them in its own, which the page names.

// The values of a <time>'s `data-show`.
const [DATE, MINUTE, SECOND] = [
  { day: "numeric", month: "short", year: "numeric" },
  { hour: "2-digit", minute: "2-digit" },
  { hour: "2-digit", minute: "2-digit", second: "2-digit" },
];
const FORMATS = {
  clock: new Intl.DateTimeFormat("en-GB", SECOND),
  minute: new Intl.DateTimeFormat("en-GB", MINUTE),
  day: new Intl.DateTimeFormat("en-GB", { ...DATE, ...MINUTE }),
  full: new Intl.DateTimeFormat("en-GB", { weekday: "short", ...DATE, ...SECOND, timeZoneName: "short" }),
};

export function clock(milliseconds) {
  return FORMATS.clock.format(milliseconds);
}

export function localize(root) {
  for (const each of root.querySelectorAll("time[data-show]")) {
    const at = new Date(each.dateTime);
    each.textContent = FORMATS[each.dataset.show].format(at);
    each.title = FORMATS.full.format(at);
  }
}

localize(document);
const zone = document.getElementById("zone");
if (zone) zone.textContent = `${FORMATS.full.resolvedOptions().timeZone}, this browser’s time zone`;

// The fields `from` and `to` of a <form data-moments> are in the browser's time zone, and are sent in UTC.
for (const form of document.querySelectorAll("form[data-moments]")) {
  const pad = (number) => `${number}`.padStart(2, "0");
  for (const field of [form.elements.from, form.elements.to]) {
    if (!/^\d{4}-.*Z$/.test(field.value)) continue;
    const at = new Date(field.value);
    const [date, time] = [[at.getFullYear(), at.getMonth() + 1, at.getDate()], [at.getHours(), at.getMinutes()]];
    if (!isNaN(at)) field.value = `${date.map(pad).join("-")}T${time.map(pad).join(":")}`;
  }
  form.addEventListener("formdata", ({ formData }) => {
    for (const name of ["from", "to"]) {
      const written = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?))?$/.exec(formData.get(name)?.trim());
      const at = written && new Date(`${written[1]}T${written[2] ?? "00:00"}`);
      if (at && !isNaN(at)) formData.set(name, at.toISOString().replace(/(:00)?\.000Z$/, "Z"));
      else if (!formData.get(name)) formData.delete(name);
    }
    for (const [name, value] of [...formData]) if (!value) formData.delete(name); // keeps the URL short
  });
}
