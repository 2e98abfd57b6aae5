"use strict";
// Histograms of sizes and ages, and what RSS is made of.

function bars(rows) {
  const most = Math.max(1, ...rows.map(({ value }) => value));
  const cells = rows.flatMap(({ label, value, text }) => {
    const bar = element("i");
    bar.style.width = `${(100 * value) / most}%`;
    const track = element("span", { class: "track" }, ...(value > 0 ? [bar] : []));
    return [element("span", { class: "number" }, label), track, element("span", { class: "number" }, text)];
  });
  return element("div", { class: "bars" }, ...cells);
}

// process: number of one, or null for all.
function showSizes(profile, process) {
  const { sizes, sample_bytes: mean } = profile.head;
  if (!sizes) {
    fill($("sizes-note"), mean > 0
      ? "Not shown: blocks were sampled, and the sizes of samples are not those of all blocks."
      : "This recording has no blocks.");
    fill($("sizes"));
    return;
  }
  const classes = process === null ? sizes.all : sizes.processes[process];
  const total = classes.reduce((sum, [, , count]) => sum + count, 0);
  const unknown = process === null && sizes.unknown > 0
    ? ` ${counted(sizes.unknown, "further block is", "further blocks are")} of a size that was not kept.` : "";
  fill($("sizes-note"), `${counted(total, "block", "blocks")} allocated, freed since or not, by the size that was asked for.${unknown}`);
  const rows = classes.map(([least, most, count]) => ({
    label: most === null ? `${human(least)} and more` : least === most ? human(least) : `${human(least)} to ${human(most)}`,
    value: count,
    text: `${thousands(count)} · ${percent(count, total)}`,
  }));
  fill($("sizes"), bars(rows));
}

const AGES = [[1, "less than 1 s"], [10, "1 to 10 s"], [60, "10 to 60 s"], [600, "1 to 10 min"], [3600, "10 to 60 min"],
  [21600, "1 to 6 h"], [86400, "6 to 24 h"], [Infinity, "a day and more"]];

// includes: which stacks count.
function showAges(profile, includes) {
  const { bytes, oldest_s } = profile.stacks;
  const rows = AGES.map(([, label]) => ({ label, value: 0 }));
  const unknown = { label: "not known", value: 0 };
  let total = 0;
  for (let stack = 0; stack < includes.length && bytes.live; stack++) {
    if (!includes[stack]) continue;
    const row = oldest_s[stack] >= 0 ? rows[AGES.findIndex(([most]) => oldest_s[stack] < most)] : unknown;
    row.value += bytes.live[stack];
    total += bytes.live[stack];
  }
  if (total === 0) {
    fill($("ages-note"), bytes.live ? "Nothing is live." : "This view has no live blocks.");
    fill($("ages"));
    return;
  }
  fill($("ages-note"), "By the age of the oldest live block of each stack, as recordings keep no other ages: blocks are at most that old.");
  const shown = [...rows, unknown];
  while (shown.length > 1 && shown.at(-1).value === 0) shown.pop();
  for (const row of shown) row.text = `${human(row.value)} · ${percent(row.value, total)}`;
  fill($("ages"), bars(shown));
}

const PARTS = [212, 28, 140, 275, 350, 180, 50, 310, 95, 240, 8, 160];

function showRss(profile, process) {
  const { processes, process_names: names } = profile.head;
  const chosen = processes.map((of, at) => [of, names[at], at]).filter(([, , at]) => process === null || at === process);
  const measured = chosen.filter(([of]) => of.rss).sort((a, b) => b[0].rss.rss_bytes - a[0].rss.rss_bytes);
  const others = chosen.filter(([of]) => !of.rss).map(([, name]) => name);
  const shown = measured.slice(0, 30);
  const content = shown.map(([of, name]) => measuredOf(of.rss, name));
  if (measured.length > shown.length) {
    const more = counted(measured.length - shown.length, "smaller process is", "smaller processes are");
    content.push(element("p", { class: "quiet" }, `${more} not shown here: choose one above.`));
  }
  if (others.length > 0) {
    const few = others.slice(0, 8).join(", ") + (others.length > 8 ? ` and ${others.length - 8} more` : "");
    content.push(element("p", { class: "quiet" },
      `Not measured: ${few} (ended too soon, could not be read, or recorded with --no-rss).`));
  }
  fill($("rss"), ...content);
}

function measuredOf(rss, name) {
  const parts = rss.parts
    .filter((part) => part.resident_bytes > 0 || part.most_bytes > 0 || part.virtual_bytes > 0)
    .map((part, at) => ({ ...part, colour: `hsl(${PARTS[at % PARTS.length]} 55% 55%)` }))
    .sort((a, b) => b.resident_bytes - a.resident_bytes);
  const strip = element("div", { class: "parts", "aria-hidden": "true" }, ...parts.map((part) => {
    const bar = element("i", { title: printable(part.name) });
    bar.style.width = `${(100 * part.resident_bytes) / rss.rss_bytes}%`;
    bar.style.background = part.colour;
    return bar;
  }));
  const heads = ["Part", "Resident", "Share", "Between", "How", "Where from"];
  const rows = parts.map((part) => {
    const swatch = element("i", { class: "swatch" });
    swatch.style.background = part.colour;
    const isSure = part.most_bytes - part.least_bytes <= part.resident_bytes / 100;
    return element("tr", {},
      element("td", {}, swatch, " ", part.name),
      element("td", { class: "number" }, human(part.resident_bytes)),
      element("td", { class: "number" }, percent(part.resident_bytes, rss.rss_bytes)),
      element("td", { class: "number" }, isSure ? "" : `${human(part.least_bytes)} to ${human(part.most_bytes)}`),
      element("td", {}, part.how),
      element("td", { class: "quiet" }, part.why));
  });
  const head = element("tr", {}, ...heads.map((title, at) => element("th", { scope: "col", class: at > 0 && at < 4 ? "number" : "" }, title)));
  const when = `measured ${duration(rss.at_s)} after the start, ${duration(rss.before_end_s)} before the end`;
  const allocator = rss.allocator === "" ? "no allocator was found"
    : `${rss.allocator}'s heap ${rss.allocator_read ? "was read" : "could not be read"}`;
  const swap = rss.swap_bytes > 0 ? `; ${human(rss.swap_bytes)} swapped out` : "";
  return element("div", { class: "measured" },
    element("h2", {}, element("span", { class: "name" }, name), `: ${human(rss.rss_bytes)} resident`),
    element("p", { class: "quiet" }, `${when}; ${allocator}${swap}`), strip,
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}
