"use strict";
// Numbers and names as texts, and texts as elements: nothing of the data becomes HTML.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function human(bytes) {
  const sign = bytes < 0 ? "-" : "";
  let number = Math.abs(bytes);
  let unit = 0;
  while (number >= 1024 && unit + 1 < UNITS.length) {
    number /= 1024;
    unit += 1;
  }
  return `${sign}${unit === 0 ? number : number.toFixed(1)} ${UNITS[unit]}`;
}

const thousands = (number) => Math.round(number).toLocaleString("en-US");
const signed = (number, format) => (number > 0 ? "+" : "") + format(number);
const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(2)}%` : "-");
const counted = (count, one, many) => `${thousands(count)} ${count === 1 ? one : many}`;

function duration(seconds) {
  if (seconds < 1) return `${(1000 * seconds).toFixed(seconds < 0.01 ? 2 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

// Names are chosen by others: what would order something, or change the direction of writing, is spelled.
const ORDERS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const printable = (text) =>
  String(text).replace(ORDERS, (order) => `\\u{${order.codePointAt(0).toString(16)}}`);

const baseName = (path) => path.slice(path.lastIndexOf("/") + 1) || path;

const $ = (id) => document.getElementById(id);

// An element with texts and elements in it.
function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...content.map((part) => (part instanceof Node ? part : printable(part))));
  return made;
}

function fill(parent, ...content) {
  parent.replaceChildren(...content.map((part) => (part instanceof Node ? part : printable(part))));
}
