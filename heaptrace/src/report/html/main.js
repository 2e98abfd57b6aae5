"use strict";
// What is shown, and who shows it again when something else is chosen.

class Page {
  #graph = new Job();
  #search = new Job();

  constructor(profile) {
    this.profile = profile;
    this.head = profile.head;
    this.state = {
      measure: `${this.main.key}.bytes`, process: null, inverted: false, byProcess: false, span: null, change: null,
      found: null, with: null, tab: "", raw: profile.head.raw_frames,
    };
    this.colours = new Colours(profile);
    this.flame = new Flame(profile, this.colours, {
      hover: (node, event) => this.#tip(node, event),
      focus: (node) => this.#details(node),
      zoom: (node) => { $("zoom-out").disabled = node === 0; },
    });
    this.sites = new Sites(profile, this.colours, { reveal: (stack) => this.#reveal(stack) });
    this.timeline = new Timeline(profile, this.colours, { span: (span) => this.#span(span) });
  }

  get main() {
    return this.head.measures[this.head.main];
  }

  async start() {
    const { head, profile } = this;
    $("page").hidden = false;
    this.#describe();
    showLosses(head);
    const notice = noticeOf(head);
    $("notice").hidden = notice === "" && head.empty.length === 0;
    fill($("notice"), [...head.empty, notice].join(" "));
    this.#choices();
    this.#legend();
    await later();
    showCoverage(profile);
    await later();
    showRss(profile, null);
    await later();
    this.#controls();
    this.#keys();
    this.#spanText(null);
    this.#tab({ sizes: "sizes", rss: "rss" }[head.view] ?? "flame");
    await this.#refresh();
  }

  #describe() {
    const { head } = this;
    const names = head.process_names;
    // The one that held most stands for all.
    const most = head.processes.reduce((most, { peak_live_bytes: peak }, at) =>
      (peak > head.processes[most].peak_live_bytes ? at : most), 0);
    const title = names.length > 1 ? `${names[most]} and ${names.length - 1} more` : names[0] ?? "no process";
    document.title = `${title}: ${this.main.bytes_title} - heaptrace`;
    fill($("title"), `${title}: ${this.main.bytes_title}`);
    fill($("subtitle"), `${head.mode_text}; ${duration(head.duration_s)} from ${head.started.replace("T", " ").slice(0, 19)} UTC`);
    fill($("footer"), `heaptrace ${head.heaptrace} on Linux ${head.host.kernel} ${head.host.arch}. Bytes are those that programs asked for. `
      + "This file is whole: it loads and sends nothing.");
    const sum = (of) => head.processes.reduce((sum, process) => sum + of(process), 0);
    const peak = this.timeline.past && this.timeline.peak(0, Infinity);
    const measured = head.processes.filter((process) => process.rss);
    const cards = head.measures.toSorted((a) => (a === this.main ? -1 : 0)).map(({ bytes_title, bytes, count_title, count }) =>
      [bytes_title, human(bytes), `${thousands(count)} ${count_title}`, `${thousands(bytes)} bytes`]);
    const live = head.measures.find(({ key }) => key === "live");
    if (peak && live) {
      const single = head.processes.length === 1 ? `; at any moment ${human(head.processes[0].peak_live_bytes)}` : "";
      cards.push([`peak of ${live.bytes_title}`, human(peak.live), `when saved at ${duration(peak.at)}${single}`]);
    }
    if (measured.length > 0) {
      cards.push(["RSS, last measured", human(sum((process) => process.rss?.rss_bytes ?? 0)),
        `of ${counted(measured.length, "process", "processes")}`]);
    }
    cards.push(["call stacks", thousands(this.profile.stacks.call.length), `in ${counted(names.length, "process", "processes")}`]);
    fill($("cards"), ...cards.map(([name, value, more, title]) =>
      element("div", {}, element("dt", {}, name), element("dd", { title }, value, element("small", {}, more)))));
  }

  #choices() {
    const { measures, processes, process_names: names } = this.head;
    const options = measures.toSorted((a) => (a === this.main ? -1 : 0)).flatMap(({ key, bytes_title, count_title }) => [
      element("option", { value: `${key}.bytes` }, bytes_title), element("option", { value: `${key}.count` }, count_title),
    ]);
    if (this.profile.stills.length > 0) {
      options.push(element("option", { value: "grew", disabled: true }, "live bytes that grew in the span"),
        element("option", { value: "shrank", disabled: true }, "live bytes that shrank in the span"));
    }
    fill($("measure"), ...options);
    const order = processes.map((_, at) => at).sort((a, b) => processes[b].live_bytes - processes[a].live_bytes);
    fill($("process"), element("option", { value: "" }, names.length === 1 ? names[0] : "all processes"),
      ...(names.length === 1 ? [] : order.map((at) => element("option", { value: at }, names[at]))));
  }

  #legend() {
    const { paths } = this.colours;
    const keys = paths.slice(0, 14).map((path) => {
      const swatch = element("i", { class: "swatch" });
      swatch.style.background = this.colours.ofPath(path);
      return element("span", { class: "key", title: path }, swatch, element("span", { class: "name" }, baseName(path)));
    });
    if (paths.length > 14) keys.push(element("span", { class: "key" }, `and ${paths.length - 14} more modules`));
    fill($("legend"), ...keys);
  }

  #controls() {
    $("measure").addEventListener("change", (event) => this.#set({ measure: event.target.value }));
    $("process").addEventListener("change", (event) => {
      const process = event.target.value === "" ? null : Number(event.target.value);
      this.#set({ process });
      showRss(this.profile, process);
    });
    $("inverted").addEventListener("change", (event) => this.#set({ inverted: event.target.checked }));
    $("by-process").addEventListener("change", (event) => this.#set({ byProcess: event.target.checked }));
    $("frames").hidden = !this.profile.stacks.folded.some((inner) => inner > 0);
    $("raw").checked = this.state.raw;
    $("raw").addEventListener("change", (event) => this.#frames(event.target.checked));
    $("layout").addEventListener("change", (event) => {
      this.flame.isFlame = event.target.value === "flame";
      this.flame.layOut(true);
    });
    $("zoom-out").addEventListener("click", () => this.flame.zoomOut());
    $("search").addEventListener("input", () => this.#find());
    $("theme").addEventListener("click", () => this.#theme());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#repaint());
    for (const event of ["focus", "blur"]) this.flame.canvas.addEventListener(event, () => this.flame.paint());
    const tabs = [...$("tabs").children];
    tabs.forEach((tab, at) => {
      tab.addEventListener("click", () => this.#tab(tab.id.slice(4)));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = tabs[(at + step + tabs.length) % tabs.length];
        this.#tab(next.id.slice(4));
        next.focus();
      });
    });
  }

  #keys() {
    document.addEventListener("keydown", (event) => {
      const isTyping = event.target.matches("input, select, textarea");
      if (event.key === "/" && !isTyping) {
        $("search").focus();
        event.preventDefault();
      } else if (event.key === "Escape" && event.target === $("search")) {
        $("search").value = "";
        this.#find();
      } else if (event.key === "Escape" && !isTyping && event.target !== this.flame.canvas && this.state.span) {
        this.timeline.select(null);
      }
    });
  }

  #tab(name) {
    for (const tab of $("tabs").children) {
      const isChosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    const wasHidden = this.state.tab !== name;
    this.state.tab = name;
    $("controls").hidden = name === "coverage";
    $("controls").dataset.tab = name;
    if (wasHidden && this.weights) this.#show();
  }

  #theme() {
    const order = { undefined: "light", light: "dark", dark: undefined };
    const next = order[document.documentElement.dataset.theme];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    fill($("theme"), `Theme: ${next ?? "auto"}`);
    this.#repaint();
  }

  #repaint() {
    this.colours.read();
    this.flame.paint();
    this.timeline.paint();
    this.#legend();
  }

  #set(change) {
    Object.assign(this.state, change);
    return this.#refresh();
  }

  async #frames(raw) {
    showFrames(this.profile, raw);
    this.state.raw = raw;
    // Which stacks it finds depends on their frames.
    const { found } = this.state;
    if (found) this.state.with = await this.#search.run((slices) => stacksWith(this.profile, found, slices));
    await this.#refresh();
  }

  // The weights of what is chosen, and all that is made of them.
  async #refresh() {
    const { stacks } = this.profile;
    const { measure, process, change } = this.state;
    const sign = { grew: 1, shrank: -1 }[measure];
    const [key, unit] = measure.split(".");
    const values = sign ? change.map((bytes) => Math.max(0, sign * bytes)) : stacks[unit][key];
    this.weights = process === null ? values : values.map((value, stack) => (stacks.process[stack] === process ? value : 0));
    this.format = unit === "count" ? thousands : human;
    this.total = this.weights.reduce((sum, weight) => sum + weight, 0);
    this.isBuilt = false;
    this.#share();
    await this.#show();
  }

  // Only what is looked at is made.
  async #show() {
    const { state, profile } = this;
    if (state.tab === "flame") await this.#build();
    else if (state.tab === "sites") await this.#table();
    else if (state.tab === "sizes") {
      showSizes(profile, state.process);
      showAges(profile, this.#includes());
    }
  }

  async #build(path = null) {
    if (this.isBuilt && !path) return this.flame.layOut();
    const { inverted, byProcess } = this.state;
    const previous = this.flame.tree;
    const isSame = previous && this.inverted === inverted && this.byProcess === byProcess;
    const keep = path ?? (isSame ? previous.pathTo(this.flame.zoomed).map((node) => previous.what[node]) : [ROOT]);
    const tree = await this.#graph.run((slices) => Tree.build(this.profile, this.weights, this.state, slices));
    if (!tree) return;
    Object.assign(this, { isBuilt: true, inverted, byProcess });
    const zoomed = tree.find(keep);
    this.flame.show(tree, zoomed);
    $("zoom-out").disabled = zoomed === 0;
    this.#details(zoomed);
  }

  #includes() {
    const { process, with: found } = this.state;
    const { stacks } = this.profile;
    return Uint8Array.from(stacks.call, (_, stack) =>
      (process === null || stacks.process[stack] === process) && (found === null || found[stack] === 1) ? 1 : 0);
  }

  #table() {
    const includes = this.#includes();
    const { change } = this.state;
    // What did not change has no place in a span.
    change?.forEach((bytes, stack) => { if (bytes === 0) includes[stack] = 0; });
    return this.sites.show({ span: change, includes, key: this.state.measure.split(".")[0] });
  }

  async #reveal(stack) {
    this.#tab("flame");
    await this.#build(Tree.pathOf(this.profile, stack, this.state));
    this.flame.canvas.focus();
  }

  async #find() {
    const text = $("search").value.trim();
    const found = await this.#search.run(async (slices) => {
      // A regular expression may be half of one yet.
      const found = await matching(this.profile, text, slices);
      return { found, with: found && (await stacksWith(this.profile, found, slices)) };
    }).catch((error) => (error instanceof SyntaxError ? { error } : Promise.reject(error)));
    if (!found) return;
    if (found.error) {
      fill($("share"), "no regular expression");
      return;
    }
    Object.assign(this.state, found);
    this.flame.matches = found.found;
    this.flame.paint();
    this.#share();
    if (this.state.tab !== "flame") await this.#show();
  }

  // How much of what is chosen is in stacks that the search finds.
  #share() {
    const { with: found } = this.state;
    if (found === null) return fill($("share"));
    let sum = 0;
    this.weights.forEach((weight, stack) => { sum += found[stack] * weight; });
    return fill($("share"), `${this.format(sum)}, ${percent(sum, this.total)} matched`);
  }

  #span(span) {
    const { profile, state } = this;
    const stills = span && this.timeline.stillsOf(span);
    state.span = span;
    state.change = null;
    if (stills) {
      const [before, after] = [liveAt(profile, stills.first), liveAt(profile, stills.last)];
      state.change = after.map((bytes, stack) => bytes - before[stack]);
    }
    this.#spanText(span, stills);
    const isOfSpan = state.measure === "grew" || state.measure === "shrank";
    for (const option of $("measure").options) {
      if (option.value === "grew" || option.value === "shrank") option.disabled = state.change === null;
    }
    if (state.change && !isOfSpan) state.measure = "grew";
    else if (!state.change && isOfSpan) state.measure = `${this.main.key}.bytes`;
    $("measure").value = state.measure;
    return this.#refresh();
  }

  #spanText(span, stills) {
    const { timeline } = this;
    const { past } = timeline;
    $("time").hidden = !timeline.hasBlocks && !timeline.hasRss;
    $("key-rss").hidden = !timeline.hasRss;
    $("key-live").parentElement.hidden = !timeline.hasBlocks;
    $("key-stills").hidden = timeline.stills.length === 0;
    fill($("key-live"), this.head.live_is_bound ? "live bytes, at most" : "live bytes");
    if (!past) return fill($("span-text"), "How it came about is not known.");
    if (!span) {
      const rss = timeline.hasRss ? "" : " RSS was not read.";
      const grew = timeline.stills.length > 0 ? " and see what grew in it" : "";
      return fill($("span-text"), `${counted(past.saved, "moment", "moments")} at which the recording was saved, all processes together; `
        + `between two of them there may have been more. Drag to select a span${grew}.${rss}`);
    }
    const [start, end, peak] = [timeline.at(span.from), timeline.at(span.to), timeline.peak(span.from, span.to)];
    const parts = [`${duration(span.from)} to ${duration(span.to)}`];
    if (timeline.hasBlocks) {
      const change = signed(end.live - start.live, human);
      parts.push(`live ${human(start.live)} at ${duration(start.at)}, ${human(end.live)} at ${duration(end.at)} (${change})`);
    }
    if (peak && timeline.hasBlocks) parts.push(`at most ${human(peak.live)} when saved at ${duration(peak.at)}`);
    parts.push(start.rss > 0 && end.rss > 0
      ? `RSS ${human(start.rss)} and ${human(end.rss)} (${signed(end.rss - start.rss, human)})`
      : "RSS was not read at both ends");
    parts.push(stills
      ? `stacks: what changed from ${duration(stills.from)} to ${duration(stills.to)}, the nearest moments at which they were kept`
      : "stacks were not kept over time");
    return fill($("span-text"), parts.join("; "));
  }

  #numbers(node) {
    const { tree } = this.flame;
    const bytes = tree.total[node];
    const zoomed = tree.total[this.flame.zoomed];
    const ofZoomed = this.flame.zoomed > 0 ? `, ${percent(bytes, zoomed)} of what is zoomed to` : "";
    return `${this.format(bytes)}, ${percent(bytes, this.total)} of all${ofZoomed}`;
  }

  #where(node) {
    const what = this.flame.tree.what[node];
    if (what < 0) return "";
    const { profile } = this;
    const file = profile.names.file[what];
    return [file < 0 ? "" : profile.files[file], moduleOf(profile, what)].filter((part) => part).join(" · ");
  }

  #details(node) {
    if (!this.flame.tree || this.total === 0) {
      const why = this.state.change ? "nothing of that kind happened in the span" : "there is nothing of it";
      return fill($("details"), `Nothing to show: ${why}.`);
    }
    const name = element("span", { class: "name" }, this.flame.name(node));
    const bytes = this.flame.tree.total[node];
    const exactly = this.format === human && bytes >= 1024 ? ` (${thousands(bytes)} bytes)` : "";
    return fill($("details"), name, `: ${this.#numbers(node)}${exactly}`, element("div", { class: "quiet" }, this.#where(node)));
  }

  #tip(node, event) {
    $("tip").hidden = node === null;
    if (node === null) return;
    fill($("tip"), element("div", { class: "name" }, this.flame.name(node)), element("div", {}, this.#numbers(node)),
      element("div", { class: "quiet" }, this.#where(node)));
    const { width, height } = $("tip").getBoundingClientRect();
    $("tip").style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    $("tip").style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
  }
}

readProfile().then(async (profile) => {
  await later();
  const page = new Page(profile);
  await later();
  $("loading").hidden = true;
  await page.start();
  document.documentElement.dataset.ready = "true";
}).catch((error) => {
  fill($("loading"), `This page could not be shown: ${error.message}`);
  $("loading").hidden = false;
  throw error;
});
