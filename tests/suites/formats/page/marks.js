// Moments with names: the span between two of them has what came between, to the byte.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const { file, report, human } = require("./report.js");

module.exports = {
  async marks(page, { text, shows, pixels }) {
    const data = JSON.parse(fs.readFileSync(file, "utf8").match(/data-name="profile">(.*?)<\/script>/)[1]);
    assert.deepEqual(data.marks.map(({ name }) => name), ["begun", "full é"]);
    assert.ok((await pixels("mark", "timeline")) > 20, "no mark is seen");
    const options = (id) => page.locator(`#${id} option:not([disabled])`).allInnerTexts();
    const named = [/^the start$/, /^begun \(/, /^full é \(/, /^the end$/];
    for (const [id, expected] of [["mark-from", named.slice(0, 3)], ["mark-to", named.slice(1)]]) {
      const shown = await options(id);
      assert.equal(shown.length, expected.length, shown);
      shown.forEach((name, at) => assert.match(name, expected[at]));
    }
    const choose = async (id, name) => page.selectOption(`#${id}`, { index: 1 + (await options(id)).findIndex((of) => of.startsWith(name)) });
    const [begun, full] = data.marks.map(({ at_s: at }) => at);
    await choose("mark-from", "begun");
    await choose("mark-to", "full");
    assert.equal(Number(await page.inputValue("#span-from")).toFixed(1), begun.toFixed(1));
    await page.click("#tab-sites");
    await page.fill("#search", "site_peak");
    // 61 blocks of 30,011 bytes and more.
    const peak = Array.from({ length: 61 }, (_, at) => 30_011 + 2 * at).reduce((sum, bytes) => sum + bytes, 0);
    await shows("#sites-count", `change in span +${human(peak)}`);
    await choose("mark-from", "full");
    await choose("mark-to", "the end");
    await shows("#sites-count", `change in span ${human(30_011 - peak)}`);
    // Another way to choose a span is none between marks.
    await page.focus("#span-from");
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.inputValue("#mark-from"), "");
    await page.click("#span-clear");
    assert.deepEqual([await page.inputValue("#mark-from"), Number(await page.inputValue("#mark-to"))],
      ["0", Math.max(data.history.at_s.at(-1), report.duration_s)]);
    // The brush takes a mark that it comes near.
    const area = await page.locator("#timeline").boundingBox();
    const x = (seconds) => area.x + 8 + (seconds / Math.max(data.history.at_s.at(-1), report.duration_s)) * (area.width - 16);
    await page.mouse.move(x(0), area.y + 60);
    await page.mouse.down();
    await page.mouse.move(x(full) - 30, area.y + 60);
    await page.mouse.move(x(full) - 3, area.y + 60);
    await page.mouse.up();
    await page.fill("#search", "site_peak");
    await shows("#sites-count", `change in span +${human(peak)}`);
    assert.equal(Number(await page.inputValue("#mark-to")), full);
    assert.ok((await text("#span-text")).includes("stacks: what changed from"));
  },
};
