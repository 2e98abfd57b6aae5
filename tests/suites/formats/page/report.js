// What the page is held against: the JSON report of the same recording, and how the page writes numbers.
"use strict";
const fs = require("node:fs");

const [file, reportFile, textFile] = process.argv.slice(5);
const report = JSON.parse(fs.readFileSync(reportFile, "utf8"));

const human = (bytes) => {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  let number = Math.abs(bytes);
  while (number >= 1024) [number, unit] = [number / 1024, unit + 1];
  return `${bytes < 0 ? "-" : ""}${unit ? number.toFixed(1) : number} ${units[unit]}`;
};
const thousands = (number) => number.toLocaleString("en-US");
const percent = (part, whole) => `${((100 * part) / whole).toFixed(2)}%`;
const sum = (rows, key) => rows.reduce((sum, row) => sum + row[key], 0);
const inside = (site, name) => site.stack.some(({ symbol }) => symbol === name);
const within = (name) => report.sites.filter((site) => inside(site, name));

module.exports = { file, report, textFile, human, thousands, percent, sum, inside, within };
