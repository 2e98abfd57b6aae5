// Drives the page in Chromium as people do, and holds what it shows against the JSON report of the same recording.
// usage: node drive.js PLAYWRIGHT CHROMIUM SCENARIO PAGE.html REPORT.json [REPORT.txt]
"use strict";
const assert = require("node:assert/strict");
const { pathToFileURL } = require("node:url");
const scenarios = require("./scenarios.js");

const [playwright, chromium, scenario, file] = process.argv.slice(2);
const BROWSER = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

async function main() {
  const browser = await require(playwright).chromium.launch({ executablePath: chromium, args: BROWSER });
  try {
    const page = await browser.newPage({ viewport: { width: 1400, height: 1000 }, colorScheme: "light" });
    const wrong = [];
    const url = pathToFileURL(file).href;
    page.on("pageerror", (error) => wrong.push(error.stack));
    // What the page's policy refuses, which it only does when a test tries it.
    const refused = [];
    page.on("console", (message) => {
      const text = message.text();
      (text.includes("Content Security Policy") ? refused : wrong).push(text);
    });
    const asked = [];
    page.on("request", (request) => { if (request.url() !== url) asked.push(request.url()); });
    page.on("requestfailed", (request) => {
      if (request.failure().errorText.includes("csp")) asked.splice(asked.indexOf(request.url()), 1);
      else wrong.push(`failed to load ${request.url()}: ${request.failure().errorText}`);
    });
    const isMeasured = scenario === "smooth";
    if (isMeasured) await browser.startTracing(page, { categories: ["-*", "toplevel", "devtools.timeline", "blink.user_timing"] });
    await page.goto(url);
    await page.waitForSelector("html[data-ready]");
    await scenarios[scenario](page, helpers(page));
    if (isMeasured) console.log(longest(JSON.parse((await browser.stopTracing()).toString("utf8")).traceEvents));
    assert.deepEqual([...wrong, ...asked], []);
    assert.equal(refused.length > 0, scenario === "hostile", refused.join());
    // Whatever names there are, all of the page is its own.
    const foreign = "img, iframe, object, embed, link, script[src], a[href], form";
    assert.equal(await page.locator(foreign).count(), 0);
    console.log("as expected");
  } finally {
    await browser.close();
  }
}

// The longest task of the page's thread before each mark: what it took of the processor, and by the clock.
function longest(events) {
  const marks = events.filter(({ name }) => name.startsWith("done: ")).sort((a, b) => a.ts - b.ts);
  const { pid, tid } = marks[0];
  const tasks = events.filter((event) => event.pid === pid && event.tid === tid && event.ph === "X" && event.name.endsWith("RunTask"));
  const most = new Map(marks.map(({ name }) => [name, [0, 0]]));
  for (const { ts, dur, tdur } of tasks) {
    const mark = marks.find((mark) => mark.ts >= ts);
    if (!mark) continue;
    const [cpu, wall] = most.get(mark.name);
    most.set(mark.name, [Math.max(cpu, (tdur ?? dur) / 1000), Math.max(wall, dur / 1000)]);
  }
  const line = ([name, [cpu, wall]]) => `${name.slice(6)}: longest task ${cpu.toFixed(0)} ms of processor, ${wall.toFixed(0)} ms by the clock`;
  return [...most].map(line).join("\n");
}

function helpers(page) {
  const text = (selector) => page.locator(selector).innerText();
  // Until the page has done what it was asked for.
  const shows = async (selector, expected) => {
    const isThere = (seen) => (expected instanceof RegExp ? expected.test(seen) : seen.includes(expected));
    let seen = "";
    for (let round = 0; round < 300; round++) {
      seen = await text(selector);
      if (isThere(seen)) return seen;
      await page.waitForTimeout(50);
    }
    return assert.fail(`${selector} shows ${JSON.stringify(seen)}, not ${expected}`);
  };
  // The name and the exact bytes of what is looked at in the graph.
  const focused = async () => {
    const shown = await text("#details");
    const [, name, rest] = shown.match(/^(.*?): (.*)$/m);
    const exact = rest.match(/\(([\d,]+) bytes\)/) ?? rest.match(/^([\d,]+)/);
    return { name, bytes: Number(exact[1].replaceAll(",", "")), shown };
  };
  const press = async (key) => {
    const before = await text("#details");
    await page.keyboard.press(key);
    await page.waitForFunction((before) => document.getElementById("details").innerText !== before, before);
  };
  // How many pixels of a canvas have a colour that the style names.
  const pixels = (name, of = "flame") => page.evaluate(([name, of]) => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const wanted = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    probe.remove();
    const canvas = document.getElementById(of);
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [canvas.width, canvas.height];
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(canvas, 0, 0);
    const { data } = pen.getImageData(0, 0, copy.width, copy.height);
    let count = 0;
    for (let at = 0; at < data.length; at += 4) {
      if (wanted.every((part, place) => data[at + place] === part)) count += 1;
    }
    return count;
  }, [name, of]);
  const cells = (row) => page.locator(`#sites tbody tr:nth-child(${row}) td`).allInnerTexts();
  return { text, shows, focused, press, pixels, cells };
}

main().catch((error) => {
  console.error(error.stack);
  process.exitCode = 1;
});
