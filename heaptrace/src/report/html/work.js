"use strict";
// Long work in slices: between two of them the browser draws, and takes keys.

// Well below the 100 ms after which people notice that a page does not answer.
const SLICE_MS = 10;

// Thrown out of work whose result nobody wants any more.
const STALE = Symbol("stale");

const turns = [];
const turn = new MessageChannel();
turn.port1.onmessage = () => turns.shift()();

// Comes back in a later task. Timers would wait for 4 ms when they are nested.
function later() {
  return new Promise((resolve) => {
    turns.push(resolve);
    turn.port2.postMessage(0);
  });
}

class Slices {
  // isStale: whether the work is to be given up.
  constructor(isStale = () => false) {
    this.isStale = isStale;
    this.end = performance.now() + SLICE_MS;
  }

  // Whether it is time to let others go on. Asked now and then: the clock is not for nothing.
  get over() {
    return performance.now() >= this.end;
  }

  async next() {
    await later();
    if (this.isStale()) throw STALE;
    this.end = performance.now() + SLICE_MS;
  }
}

// Items in order, those that are equal as they were: short runs sorted, and then merged.
async function sorted(items, compare, slices) {
  const RUN = 512;
  let from = [];
  for (let at = 0; at < items.length; at += RUN) {
    for (const item of items.slice(at, at + RUN).sort(compare)) from.push(item);
    if (slices.over) await slices.next();
  }
  for (let size = RUN; size < items.length; size *= 2) {
    const to = [];
    for (let at = 0; at < items.length; at += 2 * size) {
      const [middle, end] = [Math.min(at + size, items.length), Math.min(at + 2 * size, items.length)];
      let [left, right] = [at, middle];
      while (left < middle || right < end) {
        const isLeft = right >= end || (left < middle && compare(from[left], from[right]) <= 0);
        to.push(from[isLeft ? left++ : right++]);
        if ((to.length & 511) === 0 && slices.over) await slices.next();
      }
    }
    from = to;
  }
  return from;
}

// One piece of work at a time: beginning another one gives up what is under way.
class Job {
  #number = 0;

  // Gives null where it was given up.
  async run(work) {
    const number = ++this.#number;
    try {
      return await work(new Slices(() => number !== this.#number));
    } catch (error) {
      if (error === STALE) return null;
      throw error;
    }
  }
}
