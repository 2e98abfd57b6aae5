// What is done with the page, by name, and what it must show then.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");

const { file, report, human, thousands, percent, sum, inside, within } = require("./report.js");

module.exports = {
  ...require("./marks.js"),
  ...require("./frames.js"),

  async totals(page, { shows, focused }) {
    const { processes } = report;
    const cards = await page.locator("#cards dd").evaluateAll((cards) => cards.map((card) => [card.title, card.innerText]));
    for (const [at, key] of [["live"], ["alloc"]].map(([key], at) => [at, key])) {
      const [title, shown] = cards[at];
      assert.equal(title, `${thousands(sum(processes, `${key}_bytes`))} bytes`);
      assert.ok(shown.includes(`${thousands(sum(processes, `${key}_count`))} `), shown);
    }
    for (const key of ["live", "alloc"]) {
      for (const unit of ["bytes", "count"]) {
        const expected = sum(processes, `${key}_${unit}`);
        await page.selectOption("#measure", `${key}.${unit}`);
        await shows("#details", unit === "bytes" ? `${thousands(expected)} bytes` : `all: ${thousands(expected)}, 100.00% of all`);
        assert.equal((await focused()).bytes, expected);
      }
    }
    await page.click("#tab-sites");
    await page.selectOption("#group", "process");
    await shows("#sites-count", `${processes.length} process`);
    assert.ok((await page.title()).includes(processes[0].comm));
  },

  async graph(page, { text, shows, focused, press, pixels }) {
    const all = sum(report.processes, "live_bytes");
    await page.focus("#flame");
    let now = await focused();
    assert.deepEqual([now.name, now.bytes], ["all", all]);
    // Keys: inwards as far as main, which has what the report says.
    for (let depth = 0; now.name !== "main"; depth++) {
      assert.ok(depth < 12, now.shown);
      await press("ArrowDown");
      now = await focused();
    }
    const main = sum(within("main"), "live_bytes");
    assert.equal(now.bytes, main);
    await press("ArrowDown");
    const below = await focused();
    await press("ArrowUp");
    assert.equal((await focused()).name, "main");
    assert.ok(await page.isDisabled("#zoom-out"));
    await page.keyboard.press("ArrowDown");
    await shows("#details", `${below.name}: `);
    await press("Enter");
    await shows("#details", "100.00% of what is zoomed to");
    await page.click("#zoom-out");
    await shows("#details", "main: ");
    await page.focus("#flame");
    while (await page.isEnabled("#zoom-out")) await press("Escape");
    assert.equal((await focused()).bytes, all);
    // The pointer: what is under it is told, and a click zooms there.
    const area = await page.locator("#flame").boundingBox();
    const point = [area.x + 40, area.y + 18 * 2 + 9];
    await page.mouse.move(...point);
    const tip = await text("#tip");
    await page.mouse.click(...point);
    await shows("#details", "100.00% of what is zoomed to");
    assert.equal((await focused()).name, tip.split("\n")[0]);
    await page.mouse.move(area.x + 40, area.y - 60);
    assert.ok(await page.isHidden("#tip"));
    await page.focus("#flame");
    while (await page.isEnabled("#zoom-out")) await press("Escape");
    // Search: the share is that of stacks with such a function, whatever the graph looks like.
    const matched = async (search, sites) => {
      await page.fill("#search", search);
      const bytes = sum(sites, "live_bytes");
      await shows("#share", `${human(bytes)}, ${percent(bytes, all)} matched`);
    };
    assert.equal(await pixels("match"), 0);
    await matched("site_kept", within("site_kept"));
    await page.waitForTimeout(100);
    assert.ok((await pixels("match")) > 500, "no match is seen");
    await matched("/^(site_kept|site_peak)$/", report.sites.filter((site) => inside(site, "site_kept") || inside(site, "site_peak")));
    await matched("SHAPED.C", report.sites.filter(({ stack }) => stack.some(({ file }) => file?.endsWith("shaped.c"))));
    await matched("no such function", []);
    await page.fill("#search", "/(/");
    await shows("#share", "no regular expression");
    await page.keyboard.press("Escape");
    await shows("#share", /^$/);
    // Inverted: the function that called the allocator is outermost.
    await page.check("#inverted");
    const outermost = new Map();
    for (const { stack, live_bytes: bytes } of report.sites) {
      outermost.set(stack[0]?.symbol, (outermost.get(stack[0]?.symbol) ?? 0) + bytes);
    }
    const [name, bytes] = [...outermost].sort((a, b) => b[1] - a[1])[0];
    await page.focus("#flame");
    await page.waitForTimeout(200);
    await press("ArrowDown");
    now = await focused();
    assert.deepEqual([now.name, now.bytes], [name, bytes]);
    await press("Home");
    await page.uncheck("#inverted");
    // Callers below: the way inwards is up.
    await page.selectOption("#layout", "flame");
    await page.focus("#flame");
    await page.waitForTimeout(200);
    await press("ArrowUp");
    assert.notEqual((await focused()).name, "all");
    await press("ArrowDown");
    assert.equal((await focused()).name, "all");
    // One key leads to the search.
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.id), "search");
  },

  async table(page, { shows, cells, focused }) {
    await page.click("#tab-sites");
    await shows("#sites-count", `${human(sum(report.processes, "live_bytes"))}, 100.00% of all`);
    // Rows are by process and stack, whatever functions of the allocator were called.
    const rows = new Map();
    for (const site of report.sites) {
      const key = JSON.stringify([site.pid, site.stack.map(({ addr }) => addr)]);
      const row = rows.get(key) ?? { live_bytes: 0, alloc_bytes: 0, stack: site.stack };
      row.live_bytes += site.live_bytes;
      row.alloc_bytes += site.alloc_bytes;
      rows.set(key, row);
    }
    const by = (key) => [...rows.values()].map((row) => row[key]).sort((a, b) => b - a);
    await shows("#sites-count", `${rows.size} call stacks`);
    assert.equal((await cells(1))[0], human(by("live_bytes")[0]));
    assert.equal(await page.locator("#sites th[data-id='live.bytes']").getAttribute("aria-sort"), "descending");
    const head = page.locator("#sites th[data-id='alloc.bytes'] button");
    await head.click();
    await page.waitForSelector("#sites th[data-id='alloc.bytes'][aria-sort='descending']");
    assert.equal((await cells(1))[2], human(by("alloc_bytes")[0]));
    await page.keyboard.press("Enter");
    await page.waitForSelector("#sites th[data-id='alloc.bytes'][aria-sort='ascending']");
    assert.equal((await cells(1))[2], human(by("alloc_bytes").at(-1)));
    await page.locator("#sites th[data-id='name'] button").click();
    await page.waitForSelector("#sites th[data-id='name'][aria-sort='ascending']");
    const names = await page.locator("#sites td.name").evaluateAll((cells) => cells.map((cell) => cell.firstChild.textContent.toLowerCase()));
    assert.deepEqual(names, [...names].sort());
    // By function, and filtered: what the report's sites of that function come to.
    await page.selectOption("#group", "function");
    await page.fill("#search", "site_peak");
    const peak = report.sites.filter(({ stack }) => stack[0]?.symbol === "site_peak");
    await shows("#sites-count", "1 function");
    const row = await cells(1);
    assert.equal(row[2], human(sum(peak, "alloc_bytes")));
    assert.equal(row[3], thousands(sum(peak, "alloc_count")));
    for (const group of ["module", "process"]) {
      await page.selectOption("#group", group);
      await shows("#sites-count", `1 ${group}`);
      assert.equal((await cells(1))[2], human(sum(within("site_peak"), "alloc_bytes")));
    }
    // By keys: the next row, and its stack.
    await page.fill("#search", "");
    await page.selectOption("#group", "stack");
    await shows("#sites-count", `${rows.size} call stacks`);
    await page.locator("#sites th[data-id='live.bytes'] button").click();
    await page.waitForSelector("#sites th[data-id='live.bytes'][aria-sort='descending']");
    await page.focus("#sites tbody tr:first-child");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Enter");
    const largest = [...rows.values()].sort((a, b) => b.live_bytes - a.live_bytes)[0];
    await shows("#stack", `live bytes: ${thousands(largest.live_bytes)}`);
    const shown = await page.locator("#stack li .name").allInnerTexts();
    const expected = largest.stack.map(({ symbol, inlined }) => symbol && symbol + (inlined ? " (inlined)" : ""));
    expected.forEach((name, at) => { if (name) assert.equal(shown[at], name); });
    assert.ok((await page.locator("#stack li small").allInnerTexts())[0].startsWith("shaped.c:"));
    await page.click("#reveal");
    await page.waitForSelector("#flame:focus");
    await shows("#details", `${expected[0]}: `);
    assert.ok((await focused()).bytes >= largest.live_bytes);
  },

  async time(page, { text, shows, cells }) {
    const data = JSON.parse(fs.readFileSync(file, "utf8").match(/data-name="profile">(.*?)<\/script>/)[1]);
    const { at_s: at, live_bytes: live, saved } = data.history;
    assert.equal(live.at(-1), sum(report.processes, "live_bytes"));
    await shows("#span-text", `${saved} moments`);
    const highest = Math.max(...live);
    assert.ok(highest > live.at(-1), "the recording has no peak");
    await shows("#cards", `peak of live bytes`);
    assert.ok((await text("#cards")).includes(human(highest)));
    // The brush: from before the first moment to the last but one, at which most was live.
    const area = await page.locator("#timeline").boundingBox();
    const x = (seconds) => area.x + 8 + (seconds / Math.max(at.at(-1), report.duration_s)) * (area.width - 16);
    const peak = at[live.indexOf(highest)];
    const drag = async (from, to) => {
      await page.mouse.move(x(from), area.y + 60);
      await page.mouse.down();
      await page.mouse.move((x(from) + x(to)) / 2, area.y + 60);
      await page.mouse.move(x(to), area.y + 60);
      await page.mouse.up();
    };
    await drag(0, peak + 0.02 * (at.at(-1) - peak));
    await shows("#span-text", `(+${human(highest)})`);
    assert.equal(await page.inputValue("#measure"), "grew");
    await shows("#details", `all: ${human(highest)}, 100.00% of all`);
    await page.click("#tab-sites");
    await shows("#sites-count", `change in span +${human(highest)}`);
    assert.ok((await cells(1))[0].startsWith("+"));
    // By keys: the span's beginning to the peak, so that it is of what was freed since.
    await page.focus("#span-to");
    await page.keyboard.press("End");
    await page.focus("#span-from");
    while (Number(await page.inputValue("#span-from")) < peak) await page.keyboard.press("ArrowRight");
    const change = live.at(-1) - highest;
    await shows("#span-text", `(${human(change)})`);
    await shows("#sites-count", `change in span ${human(change)}`);
    await page.selectOption("#measure", "shrank");
    await page.click("#tab-flame");
    await shows("#details", "all: ");
    await page.fill("#search", "site_peak");
    await shows("#share", "matched");
    assert.ok(parseFloat((await text("#share")).split(", ")[1]) > 90, await text("#share"));
    await page.click("#span-clear");
    await shows("#span-text", `${saved} moments`);
    assert.equal(await page.inputValue("#measure"), "live.bytes");
    assert.ok(await page.isDisabled("#span-clear"));
    assert.ok(await page.locator("#measure option[value=grew]").evaluate((option) => option.disabled));
  },

  async look(page, { text, shows, pixels }) {
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number));
    const isDark = async () => Math.max(...(await background())) < 80;
    assert.ok(!(await isDark()));
    await page.emulateMedia({ colorScheme: "dark" });
    assert.ok(await isDark());
    await page.waitForTimeout(100);
    assert.ok((await pixels("page")) > 1000, "the graph is not as dark as the page");
    for (const [theme, dark] of [["light", false], ["dark", true], ["auto", true]]) {
      await page.click("#theme");
      await shows("#theme", `Theme: ${theme}`);
      assert.equal(await isDark(), dark, theme);
    }
    // Tabs by arrows.
    await page.focus("#tab-flame");
    for (const tab of ["sites", "sizes", "rss", "coverage", "flame"]) {
      await page.keyboard.press("ArrowRight");
      assert.equal(await page.evaluate(() => document.activeElement.id), `tab-${tab}`);
      assert.deepEqual(await page.locator("[role=tabpanel]:visible").evaluateAll((panels) => panels.map(({ id }) => id)), [`panel-${tab}`]);
    }
    const [process] = report.processes;
    await page.click("#tab-sizes");
    await shows("#sizes-note", `${thousands(process.alloc_count)} blocks allocated`);
    const classes = new Map();
    for (const site of report.sites) for (const [least, , count] of site.sizes) classes.set(least, (classes.get(least) ?? 0) + count);
    const counts = [...classes].sort((a, b) => a[0] - b[0]).map(([, count]) => thousands(count));
    const shown = await page.locator("#sizes .number:nth-child(3n)").allInnerTexts();
    assert.deepEqual(shown.map((line) => line.split(" · ")[0]), counts);
    await shows("#ages", "100.00%");
    await page.click("#tab-rss");
    if (process.rss) {
      await shows("#rss", `${human(process.rss.rss_bytes)} resident`);
      for (const part of process.rss.parts.filter((part) => part.resident_bytes > 0)) await shows("#rss", part.name);
    } else {
      await shows("#rss", "Not measured");
    }
    await page.click("#tab-coverage");
    for (const note of report.coverage.notes) await shows("#coverage", note);
    await shows("#coverage", "exact mode (every block)");
    assert.ok((await text("#coverage")).includes(percent(process.attached_fraction, 1)));
    const isWhole = Object.values(report.coverage.lost).every((count) => count === 0) && report.coverage.finished;
    if (!isWhole) await shows("#losses", "Missing from these numbers");
  },

  async several(page, { shows, focused, press }) {
    const { processes } = report;
    assert.ok(processes.length > 1);
    await page.selectOption("#measure", "alloc.bytes");
    await shows("#details", `(${thousands(sum(processes, "alloc_bytes"))} bytes)`);
    await page.check("#by-process");
    await page.waitForTimeout(300);
    await page.focus("#flame");
    await press("ArrowDown");
    const most = processes.reduce((most, of) => (of.alloc_bytes > most.alloc_bytes ? of : most));
    const first = await focused();
    assert.equal(first.bytes, most.alloc_bytes);
    await page.uncheck("#by-process");
    for (const [at, { pid, comm, alloc_bytes: bytes }] of processes.entries()) {
      await page.selectOption("#process", String(at));
      assert.equal(await page.locator("#process option:checked").innerText(), `${comm}:${pid}`);
      await shows("#details", bytes >= 1024 ? `(${thousands(bytes)} bytes)` : /./);
    }
    await page.selectOption("#process", "");
    await shows("#details", `(${thousands(sum(processes, "alloc_bytes"))} bytes)`);
  },

  // All that takes long with very many stacks. How long decides nothing: it is told, with what else the machine does in it.
  async smooth(page, { shows, text }) {
    const done = async (what) => {
      await page.waitForTimeout(400);
      await page.evaluate((what) => performance.mark(`done: ${what}`), what);
    };
    const all = sum(report.processes, "live_bytes");
    assert.ok(report.sites.length >= 20_000);
    await shows("#details", `${thousands(all)} bytes`);
    await done("load");
    await page.check("#inverted");
    await shows("#details", `${thousands(all)} bytes`);
    await done("inverted");
    await page.uncheck("#inverted");
    await page.check("#by-process");
    await done("by process");
    await page.fill("#search", "left");
    await shows("#share", `${human(sum(within("left"), "live_bytes"))}, `);
    await done("search");
    await page.focus("#flame");
    for (let level = 0; level < 9; level++) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await shows("#details", "100.00% of what is zoomed to");
    await done("zoom");
    await page.click("#tab-sites");
    await shows("#sites-count", " call stacks");
    await done("table");
    await page.locator("#sites th[data-id='name'] button").click();
    await page.waitForSelector("#sites th[data-id='name'][aria-sort='ascending']");
    await done("sorted by name");
    await page.selectOption("#group", "function");
    await page.fill("#search", "");
    await shows("#sites-count", " function");
    await done("by function");
    await page.focus("#span-from");
    await page.keyboard.press("ArrowRight");
    await shows("#sites-count", "change in span");
    await done("span");
    assert.ok((await text("#sites-count")).length > 0);
  },

  async hostile(page, { shows, text }) {
    const [{ comm }] = report.processes;
    assert.ok(comm.startsWith("<img"), comm);
    await shows("#title", comm);
    await shows("#notice", "Live is an upper bound: frees were not traced");
    await shows("#cards", "live bytes, at most");
    await page.click("#tab-coverage");
    await shows("#coverage", comm);
    await page.click("#tab-sites");
    await page.click("#sites tbody tr:first-child");
    await shows("#stack", comm);
    // What would be run if a name were HTML is not.
    await page.evaluate(() => {
      const made = document.createElement("div");
      made.innerHTML = "<img src=x onerror='window.ran = true'>";
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
      script.remove();
    });
    await page.waitForTimeout(100);
    assert.equal(await page.evaluate(() => window.ran), undefined);
    assert.ok((await text("#footer")).includes("loads and sends nothing"));
  },
};
