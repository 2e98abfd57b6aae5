"use strict";
// What the numbers do and do not cover: what is missing first.

function showLosses({ losses, hidden }) {
  const missing = hidden ? [...losses, hidden] : losses;
  $("losses").hidden = missing.length === 0;
  const more = missing.length > 1 ? ` (and ${missing.length - 1} more)` : "";
  fill($("losses-summary"), missing.length > 0 ? `Missing from these numbers: ${missing[0]}${more}` : "");
  fill($("losses-list"), ...missing.map((line) => element("li", {}, line)));
}

// That numbers are estimates, or bounds.
function noticeOf({ mode, sample_bytes: mean, live_is_bound: isBound, view }) {
  const ofBlocks = view !== "growth" && view !== "faults";
  const told = [];
  if (mean > 0 && ofBlocks) {
    told.push(`All bytes and blocks are estimates, made from samples (one in ${thousands(mean)} bytes on average).`);
  } else if (mode === "native" && ofBlocks) {
    told.push("All bytes and blocks are estimates, made from samples that the allocators chose.");
  }
  if (isBound && ofBlocks) told.push("Live is an upper bound: frees were not traced, and there may be less.");
  return told.join(" ");
}

function showCoverage(profile) {
  const { losses, remarks, hidden, coverage, processes, process_names: names } = profile.head;
  const list = (title, lines) => lines.length === 0 ? [] : [
    element("h2", {}, title),
    element("ul", {}, ...lines.map((line) => element("li", {}, line))),
  ];
  const missing = hidden ? [...losses, hidden] : losses;
  const content = missing.length > 0
    ? list("Missing from these numbers", missing)
    : [element("p", {}, "Nothing is known to be missing from these numbers.")];
  content.push(...list("What else is to be known of them", remarks.filter((line) => line !== hidden && line !== "no losses")));
  content.push(...list("Processes that were not traced",
    coverage.untraceable.map(({ comm, pid, reason }) => `${comm}:${pid}: ${reason}`)));
  const heads = ["Process", "Traced", "Paused", "Peak live", "Lost blocks", "Unknown frees", "Probe hits"];
  const head = element("tr", {}, ...heads.map((title, at) => element("th", { scope: "col", class: at > 0 ? "number" : "" }, title)));
  const order = processes.map((of, at) => [of, names[at]]).sort((a, b) => b[0].peak_live_bytes - a[0].peak_live_bytes);
  const rows = order.slice(0, 200).map(([of, name]) => {
    const cells = [
      percent(of.attached_fraction, 1), of.paused_s > 0 ? duration(of.paused_s) : "-", human(of.peak_live_bytes),
      thousands(of.lost_count), thousands(of.unknown_frees), thousands(of.hits),
    ];
    return element("tr", {}, element("td", { class: "name" }, name), ...cells.map((text) => element("td", { class: "number" }, text)));
  });
  content.push(element("h2", {}, order.length > rows.length ? `Processes (${rows.length} of ${order.length})` : "Processes"),
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  fill($("coverage"), ...content);
}
