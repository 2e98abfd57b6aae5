// Frames that are not the user's: the table by function is the text report's, and with all frames it is by the functions that
// called the allocator.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const { report, textFile, human } = require("./report.js");

module.exports = {
  async frames(page, { shows, focused, press, cells }) {
    const rows = fs.readFileSync(textFile, "utf8").split("\n")
      .map((line) => line.match(/^ +[\d.]+% +([\d,]+) +([\d,]+) .*? \S+:\d+ +\S+ {2,}(\S.*)$/))
      .filter((found) => found)
      .map(([, bytes, count, name]) => ({ bytes: Number(bytes.replaceAll(",", "")), count, name: name.split("<")[0] }));
    assert.ok(rows.length > 5, "the text has no rows");
    const functions = async () => {
      await page.click("#tab-sites");
      await page.selectOption("#group", "function");
      await page.selectOption("#measure", "alloc.bytes");
      await shows("#sites-count", " functions");
      await page.waitForSelector("#sites th[data-id='alloc.bytes'][aria-sort='descending']");
    };
    await functions();
    for (const [at, { bytes, count, name }] of rows.slice(0, 5).entries()) {
      const row = await cells(1 + at);
      assert.deepEqual(row.slice(0, 2), [human(bytes), count], name);
      assert.ok(row.at(-1).startsWith(name), `${row.at(-1)} is not ${name}`);
    }
    // A stack has all its frames, those that are left out elsewhere first.
    await page.click("#sites tbody tr:first-child");
    const inner = await page.locator("#stack li.inner").count();
    const all = await page.locator("#stack li").count();
    assert.ok(all > inner);
    const folded = await page.locator("#sites-count").innerText();
    await page.check("#raw");
    const raw = new Map();
    for (const { stack, alloc_bytes: bytes } of report.sites) {
      const { symbol, module } = stack[0] ?? {};
      const key = `${symbol ?? "[unknown]"}\n${module}`;
      raw.set(key, (raw.get(key) ?? 0) + bytes);
    }
    const [[most, sum]] = [...raw].sort((a, b) => b[1] - a[1]);
    await page.waitForFunction((folded) => document.getElementById("sites-count").innerText !== folded, folded);
    const first = await cells(1);
    assert.deepEqual([first[0], first.at(-1).startsWith(most.split("\n")[0])], [human(sum), true], first.join());
    assert.equal(await page.locator("#stack li.inner").count(), inner, "what is looked at stays until another row is");
    // The graph inverted begins with it.
    await page.fill("#search", "");
    await page.click("#tab-flame");
    await page.check("#inverted");
    await page.focus("#flame");
    await page.waitForTimeout(300);
    await press("ArrowDown");
    assert.equal((await focused()).name, most.split("\n")[0]);
    await page.uncheck("#raw");
    await page.waitForTimeout(300);
    await page.focus("#flame");
    await press("ArrowDown");
    const now = await focused();
    assert.ok(now.name.startsWith(rows[0].name) && now.bytes === rows[0].bytes, now.shown);
  },
};
