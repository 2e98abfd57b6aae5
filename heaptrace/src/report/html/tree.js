"use strict";
// The tree that a graph draws: calls of one function by one caller are one node, whatever lines they are on.

// The root's, and those of processes: -2 is the first one.
const ROOT = -1;
const processNode = (process) => -2 - process;

// A table of numbers that grows.
class Growing {
  constructor(Kind, size = 1024) {
    this.values = new Kind(size);
    this.length = 0;
  }

  push(value) {
    if (this.length === this.values.length) {
      const larger = new this.values.constructor(2 * this.length);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value;
  }
}

class Tree {
  constructor() {
    this.parent = new Growing(Int32Array);
    this.what = new Growing(Int32Array);
    this.total = new Growing(Float64Array);
    this.table = new Int32Array(4096).fill(-1);
    this.push(-1, ROOT);
  }

  get length() {
    return this.what.length;
  }

  push(parent, what) {
    this.parent.push(parent);
    this.what.push(what);
    this.total.push(0);
    return this.length - 1;
  }

  #place(parent, what) {
    const { table } = this;
    let at = (Math.imul(parent, 0x9e3779b1) ^ Math.imul(what, 0x85ebca6b)) >>> 0;
    at = (at ^ (at >>> 15)) & (table.length - 1);
    while (table[at] >= 0 && (this.parent.values[table[at]] !== parent || this.what.values[table[at]] !== what)) {
      at = (at + 1) & (table.length - 1);
    }
    return at;
  }

  // The node below `parent`, made if it is not there.
  child(parent, what) {
    let at = this.#place(parent, what);
    if (this.table[at] >= 0) return this.table[at];
    if (2 * this.length > this.table.length) {
      this.table = new Int32Array(2 * this.table.length).fill(-1);
      for (let node = 1; node < this.length; node++) {
        this.table[this.#place(this.parent.values[node], this.what.values[node])] = node;
      }
      at = this.#place(parent, what);
    }
    this.table[at] = this.push(parent, what);
    return this.table[at];
  }

  // Once all stacks are in it: sums, and the children of each node behind each other.
  async finish(slices) {
    const size = this.length;
    this.table = null;
    const parent = (this.parent = this.parent.values.subarray(0, size));
    const what = (this.what = this.what.values.subarray(0, size));
    const total = this.total.values.subarray(0, size);
    const first = new Int32Array(size + 1);
    for (let node = size - 1; node > 0; node--) {
      total[parent[node]] += total[node];
      first[parent[node] + 1] += 1;
      if ((node & 8191) === 0 && slices.over) await slices.next();
    }
    for (let node = 0; node < size; node++) first[node + 1] += first[node];
    const next = first.slice();
    const children = new Int32Array(Math.max(size - 1, 0));
    for (let node = 1; node < size; node++) {
      children[next[parent[node]]++] = node;
      if ((node & 8191) === 0 && slices.over) await slices.next();
    }
    Object.defineProperty(this, "length", { value: size });
    Object.assign(this, { what, total, first, children, isSorted: new Uint8Array(size) });
    return this;
  }

  // The largest first. Sorted when somebody asks, as most are too small to be drawn.
  childrenOf(node) {
    const below = this.children.subarray(this.first[node], this.first[node + 1]);
    if (!this.isSorted[node]) {
      this.isSorted[node] = 1;
      below.sort((a, b) => this.total[b] - this.total[a] || this.what[a] - this.what[b]);
    }
    return below;
  }

  // From the root to a node.
  pathTo(node) {
    const path = [];
    for (let at = node; at >= 0; at = this.parent[at]) path.push(at);
    return path.reverse();
  }

  // The node that a path of whats leads to, as far as there is one.
  find(path) {
    let node = 0;
    for (const what of path.slice(1)) {
      const next = this.childrenOf(node).find((child) => this.what[child] === what);
      if (next === undefined) break;
      node = next;
    }
    return node;
  }

  // A stack with its caller outermost, as the graph has it; see `build`.
  static pathOf(profile, stack, { inverted, byProcess }) {
    const path = Array.from(namesOf(profile, stack), (name) => profile.names.function[name]);
    if (!inverted) path.reverse();
    return [ROOT, ...(byProcess ? [processNode(profile.stacks.process[stack])] : []), ...path];
  }

  // weights: of each stack how much counts, 0 of those that do not. inverted: the innermost function is outermost.
  static async build(profile, weights, { inverted, byProcess }, slices) {
    const tree = new Tree();
    const { end: ends, process } = profile.stacks;
    const { parent, name } = profile.calls;
    const of = profile.names.function;
    // Of each call the node that stands for it, in the process of which it last did.
    const nodes = new Int32Array(parent.length);
    const nodesOf = new Int32Array(parent.length).fill(-1);
    const path = [];
    for (let stack = 0; stack < ends.length; stack++) {
      if ((stack & 15) === 0 && slices.over) await slices.next();
      if (!(weights[stack] > 0)) continue;
      const group = byProcess ? process[stack] : 0;
      let node = byProcess ? tree.child(0, processNode(group)) : 0;
      if (inverted) {
        for (let call = ends[stack]; call >= 0; call = parent[call]) node = tree.child(node, of[name[call]]);
      } else {
        path.length = 0;
        for (let call = ends[stack]; call >= 0; call = parent[call]) {
          if (nodesOf[call] === group) {
            node = nodes[call];
            break;
          }
          path.push(call);
        }
        while (path.length > 0) {
          const call = path.pop();
          node = tree.child(node, of[name[call]]);
          nodes[call] = node;
          nodesOf[call] = group;
        }
      }
      tree.total.values[node] += weights[stack];
    }
    return tree.finish(slices);
  }
}
