"use strict";
// A colour for each module, those with most of the profile as far apart as they can be.

const HUES = [212, 28, 140, 275, 350, 180, 50, 310, 95, 240, 8, 160];

class Colours {
  // Modules by how much of the profile is below functions of theirs.
  constructor(profile) {
    this.profile = profile;
    const key = profile.head.measures[profile.head.main].key;
    const { parent, name } = profile.calls;
    const weight = new Float64Array(parent.length);
    profile.stacks.call.forEach((call, stack) => { weight[call] += profile.stacks.bytes[key][stack]; });
    const area = new Float64Array(profile.head.modules.length);
    for (let call = parent.length - 1; call >= 0; call--) {
      if (parent[call] >= 0) weight[parent[call]] += weight[call];
      const module = profile.names.module[name[call]];
      if (module >= 0) area[module] += weight[call];
    }
    // Several versions of a file are one module.
    const byPath = new Map();
    profile.head.modules.forEach((path, module) => {
      if (area[module] > 0) byPath.set(path, (byPath.get(path) ?? 0) + area[module]);
    });
    this.paths = [...byPath].sort((a, b) => b[1] - a[1]).map(([path]) => path);
    const rank = new Map(this.paths.map((path, place) => [path, place]));
    this.ranks = profile.head.modules.map((path) => rank.get(path) ?? -1);
    this.read();
  }

  // Again where the theme changes.
  read() {
    const probe = $("tip");
    const colour = (name) => {
      probe.style.color = `var(--${name})`;
      const read = getComputedStyle(probe).color;
      probe.style.color = "";
      return read;
    };
    const names = [
      "page", "card", "ink", "quiet", "line", "accent", "live", "live-fill", "rss", "still", "mark", "brush", "match",
      "match-ink", "frame-ink", "grew",
    ];
    this.theme = Object.fromEntries(names.map((name) => [name, colour(name)]));
    const scheme = document.documentElement.dataset.theme;
    const dark = scheme ? scheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const of = (hue, saturation, shade) =>
      dark ? `hsl(${hue} ${saturation}% ${shade - 34}%)` : `hsl(${hue} ${saturation + 16}% ${shade + 8}%)`;
    this.none = dark ? "hsl(220 6% 32%)" : "hsl(220 8% 82%)";
    this.process = dark ? "hsl(220 10% 26%)" : "hsl(220 14% 88%)";
    this.modules = this.ranks.map((rank) => this.#of(rank, of));
  }

  #of(rank, of) {
    if (rank < 0) return this.none;
    const round = Math.floor(rank / HUES.length);
    return of(HUES[rank % HUES.length] + 13 * round, Math.max(46 - 14 * round, 10), 66 + 3 * (round % 3));
  }

  ofPath(path) {
    const module = this.profile.head.modules.indexOf(path);
    return module < 0 ? this.none : this.modules[module];
  }

  // Of a node of a graph.
  of(what) {
    if (what < 0) return this.process;
    const module = this.profile.names.module[what];
    return module < 0 ? this.none : this.modules[module];
  }
}
