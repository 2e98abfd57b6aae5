"use strict";
// The table: stacks, or what they come to by function, module or process; sorted and filtered.

const PAGE = 100;

class Sites {
  #job = new Job();

  // on: { reveal(stack) } shows a stack in the graph.
  constructor(profile, colours, on) {
    this.profile = profile;
    this.colours = colours;
    this.on = on;
    this.table = $("sites");
    this.body = this.table.tBodies[0];
    this.sort = { column: null, down: true };
    this.group = "stack";
    this.rows = [];
    this.shown = PAGE;
    this.state = null;
    $("sites-more").addEventListener("click", () => {
      this.shown += 5 * PAGE;
      this.#draw();
    });
    $("group").addEventListener("change", (event) => {
      this.group = event.target.value;
      this.show(this.state);
    });
    this.body.addEventListener("click", (event) => this.#select(event.target.closest("tr")));
    this.body.addEventListener("keydown", (event) => this.#key(event));
  }

  // state: { span (change of each stack, or null), includes (which stacks count), key (of the measure) }.
  async show(state) {
    if (this.state?.key !== state.key || !this.state.span !== !state.span) this.sort = { column: null, down: true };
    this.state = state;
    this.shown = PAGE;
    const columns = this.#columns();
    if (this.sort.column !== "name" && !columns.some(({ id }) => id === this.sort.column)) {
      this.sort = { column: columns[0].id, down: true };
    }
    const rows = await this.#job.run(async (slices) =>
      this.#sorted(await this.#grouped(columns, slices), columns, slices));
    if (!rows) return;
    Object.assign(this, { rows, columns });
    this.#draw();
  }

  #columns() {
    const { stacks, head } = this.profile;
    const columns = [];
    if (this.state.span) {
      const format = (value) => signed(value, human);
      columns.push({ id: "change", title: "Change in span", values: this.state.span, format, isChange: true });
    }
    const titles = { alloc: "Allocated", live: "Live", mapped: "Mapped", touched: "Touched" };
    const main = head.measures.find(({ key }) => key === this.state.key) ?? head.measures[head.main];
    for (const { key, bytes, count } of [main, ...head.measures.filter((measure) => measure !== main)]) {
      const [title, blocks] = [titles[key], { mapped: "Calls", touched: "Faults" }[key] ?? `${titles[key]} blocks`];
      columns.push({ id: `${key}.bytes`, title, values: stacks.bytes[key], format: human, total: bytes });
      columns.push({ id: `${key}.count`, title: blocks, values: stacks.count[key], format: thousands, total: count });
    }
    if (stacks.bytes.live && stacks.oldest_s.some((age) => age >= 0)) {
      columns.push({ id: "oldest", title: "Oldest", values: stacks.oldest_s, format: duration, isMaximum: true });
    }
    return columns;
  }

  // What a stack belongs to, as a number.
  #groupOf() {
    const { process, call, end } = this.profile.stacks;
    const { name } = this.profile.calls;
    const { function: of } = this.profile.names;
    return {
      // Those that differ in frames which are not shown are one.
      stack: (stack) => (end === call ? stack : process[stack] * name.length + end[stack]),
      function: (stack) => of[name[end[stack]]],
      module: (stack) => this.colours.ranks[this.profile.names.module[name[end[stack]]]] ?? -1,
      process: (stack) => process[stack],
    }[this.group];
  }

  async #grouped(columns, slices) {
    const groupOf = this.#groupOf();
    const rows = new Map();
    const { includes } = this.state;
    const first = columns[0].values;
    for (let stack = 0; stack < includes.length; stack++) {
      if ((stack & 255) === 0 && slices.over) await slices.next();
      if (!includes[stack]) continue;
      const group = groupOf(stack);
      const row = rows.get(group);
      if (!row) {
        rows.set(group, { stack, stacks: 1, values: columns.map(({ values }) => values[stack]) });
        continue;
      }
      row.stacks += 1;
      // The largest one stands for the group.
      if (first[stack] > first[row.stack]) row.stack = stack;
      columns.forEach(({ values, isMaximum }, at) => {
        if (!isMaximum) row.values[at] += values[stack];
        else if (!(row.values[at] >= values[stack])) row.values[at] = values[stack];
      });
    }
    return [...rows.values()];
  }

  async #sorted(rows, columns, slices) {
    const { column, down } = this.sort;
    const at = columns.findIndex(({ id }) => id === column);
    for (const [number, row] of rows.entries()) {
      const value = at < 0 ? this.#name(row).toLowerCase() : row.values[at];
      // What is not known is less than all else.
      row.key = Number.isNaN(value) ? -Infinity : value;
      if ((number & 511) === 0 && slices.over) await slices.next();
    }
    const sign = down ? -1 : 1;
    const compare = (a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : a.stack - b.stack);
    return sorted(rows, compare, slices);
  }

  #innermost(row) {
    return this.profile.calls.name[this.profile.stacks.end[row.stack]];
  }

  // The next functions outwards: the innermost one is often a wrapper of the allocator.
  #callers(row) {
    const { function: of, text } = this.profile.names;
    const callers = [];
    let last = of[this.#innermost(row)];
    for (const name of namesOf(this.profile, row.stack)) {
      if (of[name] !== last) callers.push(text[(last = of[name])]);
      if (callers.length === 3) break;
    }
    return callers.map((name) => ` ← ${name}`).join("");
  }

  #name(row) {
    const name = this.#innermost(row);
    if (this.group === "process") return this.profile.head.process_names[this.profile.stacks.process[row.stack]];
    if (this.group === "module") return moduleOf(this.profile, name) || "[no module]";
    return this.profile.names.text[name];
  }

  #draw() {
    const { rows, columns } = this;
    const heads = [...columns, { id: "name", title: this.#title(), isName: true }].map((column) => {
      const { id, title, isName } = column;
      const isSorted = this.sort.column === id;
      const button = element("button", { type: "button" }, title, isSorted ? (this.sort.down ? " ▾" : " ▴") : "");
      button.addEventListener("click", () => this.#sortBy(id, isName));
      const sort = isSorted ? (this.sort.down ? "descending" : "ascending") : "none";
      return element("th", { scope: "col", class: isName ? "" : "number", "aria-sort": sort, "data-id": id }, button);
    });
    const focused = document.activeElement?.closest?.("th")?.dataset.id;
    fill(this.table.tHead, element("tr", {}, ...heads));
    if (focused) this.table.tHead.querySelector(`[data-id="${focused}"] button`)?.focus();
    fill(this.body, ...rows.slice(0, this.shown).map((row, at) => this.#row(row, at)));
    const more = rows.length - this.shown;
    $("sites-more").hidden = more <= 0;
    fill($("sites-more"), `Show ${thousands(Math.min(more, 5 * PAGE))} more`);
    const sums = columns.slice(0, 1).map((column, at) => {
      const sum = rows.reduce((sum, row) => sum + (row.values[at] || 0), 0);
      const share = column.total ? `, ${percent(sum, column.total)} of all` : "";
      return `${column.title.toLowerCase()} ${column.format(sum)}${share}`;
    });
    const what = { stack: "call stack", function: "function", module: "module", process: "process" }[this.group];
    const many = { process: "processes" }[this.group] ?? `${what}s`;
    fill($("sites-count"), `${counted(rows.length, what, many)}: ${sums.join("; ")}`);
    this.body.rows[0]?.setAttribute("tabindex", "0");
  }

  #title() {
    return { stack: "Call stack", function: "Function", module: "Module", process: "Process" }[this.group];
  }

  #row(row, at) {
    const { columns } = this;
    const cells = columns.map(({ values, format, total, isChange }, place) => {
      const value = row.values[place];
      const sign = isChange && value !== 0 ? (value > 0 ? " grew" : " shrank") : "";
      const text = Number.isNaN(value) ? "-" : format(value);
      const cell = element("td", { class: `number${sign}${total && place < 2 ? " bar" : ""}` }, text);
      if (total && place < 2) cell.style.setProperty("--share", `${(100 * value) / total}%`);
      return cell;
    });
    const name = element("td", { class: "name" }, this.#name(row));
    if (this.group === "stack" || this.group === "function") {
      const inner = this.#innermost(row);
      const where = [sourceOf(this.profile, inner) || moduleOf(this.profile, inner)];
      if (this.group === "stack") {
        where.push(this.profile.head.process_names[this.profile.stacks.process[row.stack]]);
        name.append(element("span", { class: "quiet" }, this.#callers(row)));
        const verdict = this.profile.verdicts[row.stack]?.split(":")[0];
        if (verdict) name.append(element("span", { class: verdict === "LEAK-LIKE" ? "verdict leak" : "verdict" }, verdict));
      }
      name.append(element("div", { class: "quiet" }, where.filter((part) => part).map(baseName).join(" · ")));
    }
    return element("tr", { "data-at": at, tabindex: "-1" }, ...cells, name);
  }

  async #sortBy(id, isName) {
    this.sort = { column: id, down: this.sort.column === id ? !this.sort.down : !isName };
    const rows = await this.#job.run((slices) => this.#sorted(this.rows, this.columns, slices));
    if (!rows) return;
    this.rows = rows;
    this.#draw();
  }

  #key(event) {
    const row = event.target.closest("tr");
    const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
    if (next) {
      next.setAttribute("tabindex", "0");
      row.setAttribute("tabindex", "-1");
      next.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      this.#select(row);
    } else {
      return;
    }
    event.preventDefault();
  }

  #select(line) {
    if (!line) return;
    this.body.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
    line.setAttribute("aria-selected", "true");
    this.#detail(this.rows[line.dataset.at]);
  }

  // The whole stack of a row, innermost first, and what is known of it.
  #detail(row) {
    const { profile } = this;
    const { stack } = row;
    const { process, low, high, bytes, count, oldest_s } = profile.stacks;
    const { call, folded, end } = profile.stacks;
    const inner = end === call ? 0 : folded[stack];
    const frames = Array.from(namesOf(profile, stack, call[stack]), (name, at) => {
      const where = [sourceOf(profile, name), moduleOf(profile, name)].filter((part) => part);
      const inlined = profile.names.inlined[name] ? " (inlined)" : "";
      const item = element("li", { class: at < inner ? "inner" : "" }, element("span", { class: "name" }, profile.names.text[name] + inlined));
      item.append(element("small", { title: printable(where.join(" · ")) }, where.map(baseName).join(" · ")));
      item.style.setProperty("--frame", this.colours.of(name));
      return item;
    });
    const facts = profile.head.measures.map(({ key, bytes_title, count_title }) =>
      element("div", {}, `${bytes_title}: ${thousands(bytes[key][stack])}; ${count_title}: ${thousands(count[key][stack])}`));
    if (low.length > 0) {
      facts.push(element("div", {}, `${human(low[stack])} to ${human(high[stack])}, 95 times in 100`));
    }
    if (profile.verdicts[stack]) facts.unshift(element("div", { class: "mono" }, profile.verdicts[stack]));
    if (oldest_s[stack] >= 0) facts.push(element("div", {}, `oldest live block: ${duration(oldest_s[stack])}`));
    const show = element("button", { type: "button", id: "reveal" }, "Show in the graph");
    show.addEventListener("click", () => this.on.reveal(stack));
    const title = row.stacks > 1 ? `The largest of ${thousands(row.stacks)} stacks` : "Call stack";
    if (inner > 0) facts.push(element("div", {}, `${counted(inner, "inner frame is", "inner frames are")} not the user's, and left out elsewhere`));
    fill($("stack"), element("h2", {}, title), element("p", { class: "name" }, profile.head.process_names[process[stack]]),
      element("div", { class: "quiet" }, ...facts), element("p", {}, show), element("ol", {}, ...frames));
  }
}
