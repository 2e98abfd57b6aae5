"use strict";
// Live bytes and RSS over time, and the span that is selected in it.

// Pixels from a mark that a pointer need not hit.
const NEAR = 5;

const MARGIN = { left: 8, right: 8, top: 16, bottom: 20 };

// The place of the moment that is next to a time.
const nearest = (moments, seconds) =>
  moments.reduce((best, at, index) => (Math.abs(at - seconds) < Math.abs(moments[best] - seconds) ? index : best), 0);

class Timeline {
  // on.span(span): { from, to } in seconds, or null for the whole time.
  constructor(profile, colours, on) {
    this.past = profile.head.history;
    // Where no blocks were recorded nothing is known of live bytes, which is not 0.
    this.hasBlocks = !["growth", "faults"].includes(profile.head.mode);
    this.hasRss = this.past?.rss_bytes.some((rss) => rss > 0) ?? false;
    this.colours = colours;
    this.on = on;
    this.stills = profile.stills.map((still) => still.at_s);
    this.marks = profile.head.marks.map(({ at_s, name }) => ({ at_s, name: printable(name) }));
    this.span = null;
    this.canvas = $("timeline");
    this.pen = this.canvas.getContext("2d");
    this.end = Math.max(this.past?.at_s.at(-1) ?? 0, profile.head.duration_s);
    this.most = (this.past?.live_bytes ?? []).concat(this.past?.rss_bytes ?? []).reduce((a, b) => Math.max(a, b), 1);
    for (const input of [$("span-from"), $("span-to")]) {
      input.max = this.end;
      input.step = this.end / 200;
      input.addEventListener("input", () => this.#slide());
    }
    this.#choices();
    this.#sliders();
    $("span-clear").addEventListener("click", () => this.select(null));
    this.canvas.addEventListener("pointerdown", (event) => this.#drag(event));
    this.canvas.addEventListener("dblclick", () => this.select(null));
    new ResizeObserver(() => this.paint()).observe(this.canvas);
  }

  select(span) {
    this.span = span && span.to > span.from ? span : null;
    this.#sliders();
    this.paint();
    this.on.span(this.span);
  }

  // Marks to choose a span by, with the beginning and the end. Without a choice the first option stands for what has no name.
  #choices() {
    const options = (moments) => [
      element("option", { value: "", disabled: true }, "…"),
      ...moments.map(([at, name]) => element("option", { value: at }, name)),
    ];
    const marks = this.marks.map(({ at_s, name }) => [at_s, `${name} (${duration(at_s)})`]);
    fill($("mark-from"), ...options([[0, "the start"], ...marks]));
    fill($("mark-to"), ...options([...marks, [this.end, "the end"]]));
    for (const choice of [$("mark-from"), $("mark-to")]) {
      choice.addEventListener("change", () => {
        const [from, to] = [$("mark-from"), $("mark-to")].map(({ value }) => (value === "" ? NaN : Number(value)));
        const span = { from: from || 0, to: Number.isNaN(to) ? this.end : to };
        // What was chosen stays: the other end gives way.
        if (span.from >= span.to && choice === $("mark-from")) span.to = this.end;
        else if (span.from >= span.to) span.from = 0;
        this.select(span);
      });
    }
    $("marks").hidden = this.marks.length === 0;
    $("key-marks").hidden = this.marks.length === 0;
  }

  #sliders() {
    const moments = { "mark-from": this.span?.from ?? 0, "mark-to": this.span?.to ?? this.end };
    for (const [id, at] of Object.entries(moments)) {
      const option = [...$(id).options].find(({ value }) => value !== "" && Number(value) === at);
      $(id).value = option?.value ?? "";
    }
    $("span-from").value = this.span?.from ?? 0;
    $("span-to").value = this.span?.to ?? this.end;
    for (const input of [$("span-from"), $("span-to")]) {
      input.setAttribute("aria-valuetext", duration(Number(input.value)));
    }
    $("span-clear").disabled = this.span === null;
  }

  #slide() {
    const [from, to] = [Number($("span-from").value), Number($("span-to").value)];
    const whole = from <= 0 && to >= this.end * 0.9999;
    this.select(whole ? null : { from: Math.min(from, to), to: Math.max(from, to) });
  }

  #timeAt(event) {
    const area = this.canvas.getBoundingClientRect();
    const share = (event.clientX - area.left - MARGIN.left) / (area.width - MARGIN.left - MARGIN.right);
    const at = Math.min(Math.max(share, 0), 1) * this.end;
    // A mark that is near is meant.
    const reach = (NEAR / (area.width - MARGIN.left - MARGIN.right)) * this.end;
    const mark = this.marks.find(({ at_s }) => Math.abs(at_s - at) <= reach);
    return mark ? mark.at_s : at;
  }

  #drag(event) {
    const start = this.#timeAt(event);
    const begun = event.clientX;
    this.canvas.setPointerCapture(event.pointerId);
    const move = (event) => {
      const now = this.#timeAt(event);
      if (Math.abs(event.clientX - begun) < 4) return;
      this.span = { from: Math.min(start, now), to: Math.max(start, now) };
      this.#sliders();
      this.paint();
    };
    const end = () => {
      this.canvas.removeEventListener("pointermove", move);
      this.select(this.span);
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", end, { once: true });
    event.preventDefault();
  }

  // What was so long after the start, or at the moment next to it at which the recording was saved.
  at(seconds) {
    const { at_s, live_bytes, rss_bytes } = this.past;
    const index = nearest(at_s, seconds);
    return { at: at_s[index], live: live_bytes[index], rss: rss_bytes[index] };
  }

  peak(from, to) {
    const { at_s, live_bytes } = this.past;
    let best = -1;
    at_s.forEach((at, index) => {
      if (at >= from && at <= to && (best < 0 || live_bytes[index] > live_bytes[best])) best = index;
    });
    return best < 0 ? null : { at: at_s[best], live: live_bytes[best] };
  }

  // Two moments at which stacks were kept, next to the span's ends; -1 is the start. null where there are no two.
  stillsOf({ from, to }) {
    const all = [0, ...this.stills];
    if (this.stills.length === 0) return null;
    let [first, last] = [nearest(all, from), nearest(all, to)];
    if (first === last) {
      // As much as there is: the interval that the span is in.
      if (last + 1 < all.length && (first === 0 || to > all[last])) last += 1;
      else first -= 1;
    }
    return { first: first - 1, last: last - 1, from: all[first], to: all[last] };
  }

  paint() {
    const { canvas, pen, past } = this;
    const { theme } = this.colours;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const x = (at) => MARGIN.left + (at / (this.end || 1)) * (width - MARGIN.left - MARGIN.right);
    const floor = height - MARGIN.bottom;
    const y = (bytes) => floor - (bytes / this.most) * (floor - MARGIN.top);
    pen.font = "11px system-ui, sans-serif";
    pen.strokeStyle = theme.line;
    pen.fillStyle = theme.quiet;
    pen.lineWidth = 1;
    for (const share of [0.5, 1]) {
      const line = Math.round(y(share * this.most)) + 0.5;
      pen.beginPath();
      pen.moveTo(MARGIN.left, line);
      pen.lineTo(width - MARGIN.right, line);
      pen.stroke();
      pen.fillText(human(share * this.most), MARGIN.left + 2, line - 3);
    }
    pen.beginPath();
    pen.moveTo(MARGIN.left, floor + 0.5);
    pen.lineTo(width - MARGIN.right, floor + 0.5);
    pen.stroke();
    this.#times(x, floor, width);
    if (past) {
      if (this.hasBlocks) this.#live(x, y, floor);
      this.#rss(x, y);
    }
    pen.fillStyle = theme.still;
    for (const at of this.stills) pen.fillRect(x(at) - 0.75, floor - 5, 1.5, 5);
    this.#marks(x, floor, width);
    if (this.span) {
      pen.fillStyle = theme.brush;
      pen.fillRect(x(this.span.from), MARGIN.top, x(this.span.to) - x(this.span.from), floor - MARGIN.top);
      pen.fillStyle = theme.accent;
      for (const at of [this.span.from, this.span.to]) pen.fillRect(x(at) - 1, MARGIN.top, 2, floor - MARGIN.top);
    }
  }

  // A line each, with a name where there is room for it.
  #marks(x, floor, width) {
    const { pen } = this;
    pen.fillStyle = this.colours.theme.mark;
    let free = 0;
    for (const { at_s, name } of this.marks) {
      // On whole pixels, so that it is as dark as its name.
      const at = Math.round(x(at_s));
      for (let y = MARGIN.top; y < floor; y += 6) pen.fillRect(at, y, 1, 3);
      const shown = name.length > 24 ? `${name.slice(0, 23)}…` : name;
      const wide = pen.measureText(shown).width;
      const left = Math.min(at + 3, width - wide - 2);
      if (left >= free) {
        pen.fillText(shown, left, floor - 8);
        free = left + wide + 8;
      }
    }
  }

  #times(x, floor, width) {
    const { pen } = this;
    pen.textAlign = "center";
    const steps = Math.max(2, Math.min(10, Math.floor(width / 120)));
    for (let step = 0; step <= steps; step++) {
      pen.textAlign = step === 0 ? "left" : step === steps ? "right" : "center";
      const at = (this.end * step) / steps;
      pen.fillText(step === 0 ? "0" : duration(at), x(at), floor + 14);
    }
    pen.textAlign = "left";
  }

  #live(x, y, floor) {
    const { pen, past } = this;
    const { theme } = this.colours;
    const line = new Path2D();
    past.at_s.forEach((at, index) => line.lineTo(x(at), y(past.live_bytes[index])));
    const area = new Path2D(line);
    area.lineTo(x(past.at_s.at(-1) ?? 0), floor);
    area.lineTo(x(0), floor);
    pen.fillStyle = theme["live-fill"];
    pen.fill(area);
    pen.strokeStyle = theme.live;
    pen.lineWidth = 2;
    pen.stroke(line);
    const peak = this.peak(0, Infinity);
    if (!peak || peak.live === 0) return;
    pen.fillStyle = theme.live;
    pen.beginPath();
    pen.arc(x(peak.at), y(peak.live), 3.5, 0, 7);
    pen.fill();
    const text = `peak ${human(peak.live)}`;
    pen.textAlign = x(peak.at) > this.canvas.clientWidth - 150 ? "right" : "left";
    pen.fillText(text, x(peak.at) + (pen.textAlign === "left" ? 7 : -7), Math.max(y(peak.live) - 5, 10));
    pen.textAlign = "left";
  }

  // Where it was never read there is no line, as it was not 0.
  #rss(x, y) {
    const { pen, past } = this;
    pen.strokeStyle = this.colours.theme.rss;
    pen.lineWidth = 1.5;
    pen.beginPath();
    let isDrawing = false;
    past.at_s.forEach((at, index) => {
      const rss = past.rss_bytes[index];
      if (rss > 0) {
        if (isDrawing) pen.lineTo(x(at), y(rss));
        else pen.moveTo(x(at), y(rss));
        pen.fillStyle = this.colours.theme.rss;
        pen.fillRect(x(at) - 1.5, y(rss) - 1.5, 3, 3);
      }
      isDrawing = rss > 0;
    });
    pen.stroke();
  }
}
