"use strict";
// The graph on its canvas: what of the tree is wide enough to be seen, which of it is looked at, and zoom.

const LEVEL = 18;
const NARROWEST = 1;

class Flame {
  #job = new Job();
  #painting = 0;

  // on: { hover(node, point) , focus(node), zoom(node) }.
  constructor(profile, colours, on) {
    this.profile = profile;
    this.colours = colours;
    this.on = on;
    this.canvas = $("flame");
    this.scroll = $("flame-scroll");
    this.space = $("flame-space");
    this.pen = this.canvas.getContext("2d");
    this.tree = null;
    this.zoomed = 0;
    this.focus = 0;
    this.levels = [];
    this.deepest = 0;
    this.matches = null;
    this.isFlame = false;
    this.scroll.addEventListener("scroll", () => {
      this.isAtEnd = this.scroll.scrollTop + this.scroll.clientHeight >= this.scroll.scrollHeight - 2;
      this.paint();
    });
    // What was at the bottom stays there.
    this.isAtEnd = false;
    new ResizeObserver(() => this.layOut(this.isFlame && this.isAtEnd)).observe(this.scroll);
    this.canvas.addEventListener("pointermove", (event) => this.#hover(event));
    this.canvas.addEventListener("pointerleave", () => this.on.hover(null));
    this.canvas.addEventListener("click", (event) => {
      const box = this.#at(event);
      if (box) this.zoom(box.node);
    });
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  show(tree, zoomed = 0) {
    this.tree = tree;
    this.deepest = 0;
    this.zoomed = zoomed;
    this.focus = zoomed;
    return this.layOut(true);
  }

  zoom(node) {
    this.zoomed = node;
    this.focus = node;
    this.on.zoom(node);
    this.on.focus(node);
    return this.layOut(true);
  }

  zoomOut() {
    if (this.zoomed > 0) this.zoom(this.tree.parent[this.zoomed]);
  }

  name(node) {
    const what = this.tree.what[node];
    if (what === ROOT) return "all";
    if (what < ROOT) return this.profile.head.process_names[processNode(what)];
    return this.profile.names.text[what];
  }

  // Decides which boxes there are. What it is zoomed to is as wide as the canvas, and so are its callers.
  async layOut(toRoot = false) {
    if (!this.tree) return;
    const width = this.scroll.clientWidth;
    const levels = await this.#job.run(async (slices) => {
      const found = this.tree.pathTo(this.zoomed).map((node) => [{ node, x: 0, width }]);
      const scale = width / this.tree.total[this.zoomed];
      for (let depth = found.length - 1; found[depth]?.length > 0; depth++) {
        const below = [];
        for (const box of found[depth]) {
          if (slices.over) await slices.next();
          let { x } = box;
          for (const node of this.tree.childrenOf(box.node)) {
            const width = this.tree.total[node] * scale;
            // Those behind it are smaller.
            if (width < NARROWEST) break;
            below.push({ node, x, width });
            x += width;
          }
        }
        found.push(below);
      }
      return found.filter((level) => level.length > 0);
    });
    if (!levels) return;
    this.levels = levels;
    this.space.style.height = `${levels.length * LEVEL}px`;
    // As high as it needs to be, and not lower while one zooms.
    this.deepest = Math.max(this.deepest, levels.length);
    this.scroll.style.height = `min(62vh, ${Math.max(this.deepest, 8) * LEVEL + 2}px)`;
    if (toRoot) this.scroll.scrollTop = this.isFlame ? this.scroll.scrollHeight : 0;
    this.paint();
  }

  // Once for each picture of the screen.
  paint() {
    if (this.#painting) return;
    this.#painting = requestAnimationFrame(() => {
      this.#painting = 0;
      this.#paint();
    });
  }

  #top(depth) {
    const height = Math.max(this.levels.length * LEVEL, this.scroll.clientHeight);
    return (this.isFlame ? height - (depth + 1) * LEVEL : depth * LEVEL) - this.scroll.scrollTop;
  }

  #paint() {
    const [width, height] = [this.scroll.clientWidth, this.scroll.clientHeight];
    const ratio = devicePixelRatio || 1;
    const { canvas, pen, colours } = this;
    const { theme } = colours;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = theme.page;
    pen.fillRect(0, 0, width, height);
    pen.font = '12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';
    pen.textBaseline = "middle";
    const letter = pen.measureText("m").width;
    const zoomedDepth = this.tree ? this.tree.pathTo(this.zoomed).length - 1 : 0;
    this.levels.forEach((level, depth) => {
      const y = this.#top(depth);
      if (y <= -LEVEL || y >= height) return;
      pen.globalAlpha = depth < zoomedDepth ? 0.6 : 1;
      for (const box of level) this.#box(box, y, letter);
    });
    pen.globalAlpha = 1;
  }

  #box({ node, x, width }, y, letter) {
    const { pen, colours, matches } = this;
    const { theme } = colours;
    const what = this.tree.what[node];
    const isMatch = matches !== null && what >= 0 && matches[what] === 1;
    const [left, wide] = [Math.max(x, 0), width - (width > 3 ? 1 : 0)];
    pen.fillStyle = isMatch ? theme.match : colours.of(what);
    pen.fillRect(left, y, wide, LEVEL - 1);
    if (matches !== null && !isMatch) {
      pen.fillStyle = theme.page;
      const alpha = pen.globalAlpha;
      pen.globalAlpha = 0.55;
      pen.fillRect(left, y, wide, LEVEL - 1);
      pen.globalAlpha = alpha;
    }
    if (wide > 3 * letter) {
      const name = this.name(node);
      const room = Math.floor((wide - 6) / letter);
      pen.fillStyle = isMatch ? theme["match-ink"] : theme["frame-ink"];
      if (room > 1) pen.fillText(name.length > room ? `${name.slice(0, room - 1)}…` : name, left + 3, y + LEVEL / 2);
    }
    if (node === this.focus && document.activeElement === this.canvas) {
      pen.strokeStyle = theme.ink;
      pen.lineWidth = 2;
      pen.strokeRect(left + 1, y + 1, Math.max(wide - 2, 1), LEVEL - 3);
    }
  }

  #at({ clientX, clientY }) {
    const area = this.canvas.getBoundingClientRect();
    const y = clientY - area.top + this.scroll.scrollTop;
    const height = Math.max(this.levels.length * LEVEL, this.scroll.clientHeight);
    const depth = Math.floor((this.isFlame ? height - y : y) / LEVEL);
    const x = clientX - area.left;
    return this.levels[depth]?.find((box) => x >= box.x && x < box.x + box.width) ?? null;
  }

  #hover(event) {
    const box = this.#at(event);
    this.canvas.style.cursor = box ? "pointer" : "default";
    this.on.hover(box?.node ?? null, event);
  }

  // Where the focused box is: its level, and its place in that.
  #place() {
    for (let depth = 0; depth < this.levels.length; depth++) {
      const at = this.levels[depth].findIndex((box) => box.node === this.focus);
      if (at >= 0) return [depth, at];
    }
    return [0, 0];
  }

  #key(event) {
    if (!this.tree || event.ctrlKey || event.metaKey || event.altKey) return;
    const [depth, at] = this.#place();
    const inwards = this.isFlame ? "ArrowUp" : "ArrowDown";
    const outwards = this.isFlame ? "ArrowDown" : "ArrowUp";
    const below = () =>
      this.levels[depth + 1]?.find((box) => this.tree.parent[box.node] === this.focus)?.node;
    const next = {
      [inwards]: below,
      [outwards]: () => this.levels[depth - 1]?.[depth - 1 === 0 ? 0 : this.#parentAt(depth)]?.node,
      ArrowLeft: () => this.levels[depth]?.[at - 1]?.node,
      ArrowRight: () => this.levels[depth]?.[at + 1]?.node,
      Home: () => 0,
    }[event.key];
    if (next) {
      const node = next();
      if (node !== undefined) this.#move(node);
    } else if (event.key === "Enter" || event.key === " ") {
      this.zoom(this.focus);
    } else if (event.key === "Escape" || event.key === "Backspace") {
      this.zoomOut();
    } else {
      return;
    }
    event.preventDefault();
  }

  #parentAt(depth) {
    return this.levels[depth - 1].findIndex((box) => box.node === this.tree.parent[this.focus]);
  }

  #move(node) {
    this.focus = node;
    this.on.focus(node);
    const y = this.#top(this.#place()[0]);
    if (y < 0) this.scroll.scrollTop += y;
    const over = y + LEVEL - this.scroll.clientHeight;
    if (over > 0) this.scroll.scrollTop += over;
    this.paint();
  }
}
