"use strict";
// The profile as it is in the page, read piece by piece into tables of numbers.

// Columns that come in pieces.
class Columns {
  #pieces = new Map();

  add(name, values) {
    if (!this.#pieces.has(name)) this.#pieces.set(name, []);
    this.#pieces.get(name).push(values);
  }

  // All of a column's values; none of one that never came.
  take(name, Kind) {
    const pieces = this.#pieces.get(name) ?? [];
    const all = new Kind(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      for (const value of piece) all[at++] = value ?? NaN;
    }
    return all;
  }
}

async function readProfile() {
  const slices = new Slices();
  const columns = new Columns();
  const profile = { head: null, files: [], texts: [], stills: [], verdicts: [] };
  const takers = {
    profile: (data) => { profile.head = data; },
    files: (data) => { profile.files.push(...data); },
    names: ({ text, ...others }) => {
      profile.texts.push(...text);
      for (const [name, values] of Object.entries(others)) columns.add(`names.${name}`, values);
    },
    calls: ({ up, name }) => { columns.add("up", up); columns.add("name", name); },
    stacks: ({ bytes, count, verdict, ...others }) => {
      profile.verdicts.push(...verdict);
      for (const [key, values] of Object.entries(bytes)) columns.add(`bytes.${key}`, values);
      for (const [key, values] of Object.entries(count)) columns.add(`count.${key}`, values);
      for (const [name, values] of Object.entries(others)) columns.add(`stacks.${name}`, values);
    },
    stills: ({ at_s, stack, change }) => {
      // Pieces of one moment go behind each other.
      const last = profile.stills.at(-1);
      const still = last?.at_s === at_s ? last : { at_s, pieces: [] };
      still.pieces.push({ stack: Int32Array.from(stack), change: Float64Array.from(change) });
      if (still !== last) profile.stills.push(still);
    },
  };
  for (const piece of document.querySelectorAll("script[data-name]")) {
    takers[piece.dataset.name](JSON.parse(piece.textContent));
    piece.remove();
    if (slices.over) await slices.next();
  }
  profile.names = {
    text: profile.texts.map(printable),
    file: columns.take("names.file", Int32Array),
    line: columns.take("names.line", Int32Array),
    module: columns.take("names.module", Int32Array),
    inlined: columns.take("names.inlined", Uint8Array),
    function: columns.take("names.function", Int32Array),
  };
  profile.stacks = {
    process: columns.take("stacks.process", Int32Array),
    call: columns.take("stacks.call", Int32Array),
    folded: columns.take("stacks.folded", Int32Array),
    oldest_s: columns.take("stacks.oldest_s", Float64Array),
    low: columns.take("stacks.low", Float64Array),
    high: columns.take("stacks.high", Float64Array),
    bytes: {},
    count: {},
  };
  for (const { key } of profile.head.measures) {
    await slices.next();
    profile.stacks.bytes[key] = columns.take(`bytes.${key}`, Float64Array);
    profile.stacks.count[key] = columns.take(`count.${key}`, Float64Array);
  }
  profile.calls = await parents(columns.take("up", Int32Array), columns.take("name", Int32Array), slices);
  showFrames(profile, profile.head.raw_frames);
  return profile;
}

// Of each call its caller, or -1 of the outermost ones: `up` says by how many levels the call before is deeper than that.
async function parents(up, name, slices) {
  const parent = new Int32Array(up.length);
  const path = [];
  for (let call = 0; call < up.length; call++) {
    path.length -= up[call];
    parent[call] = path.length > 0 ? path[path.length - 1] : -1;
    path.push(call);
    if ((call & 4095) === 0 && slices.over) await slices.next();
  }
  return { parent, name };
}

// Decides with which call each stack ends: its innermost one, or the first that is the user's.
function showFrames(profile, isRaw) {
  const { call, folded } = profile.stacks;
  const { parent } = profile.calls;
  profile.stacks.end = isRaw ? call : call.map((end, stack) => {
    for (let inner = folded[stack]; inner > 0; inner--) end = parent[end];
    return end;
  });
}

// The names of a stack as far as they are shown, innermost first; or from another call of it.
function* namesOf(profile, stack, from = profile.stacks.end[stack]) {
  const { parent, name } = profile.calls;
  for (let call = from; call >= 0; call = parent[call]) yield name[call];
}

// What each stack had live at a still, by its number; -1 is the start, when there was nothing.
function liveAt(profile, still) {
  const live = new Float64Array(profile.stacks.call.length);
  for (const { pieces } of profile.stills.slice(0, still + 1)) {
    for (const { stack, change } of pieces) {
      for (let at = 0; at < stack.length; at++) live[stack[at]] += change[at];
    }
  }
  return live;
}

function sourceOf(profile, name) {
  const { file, line } = profile.names;
  if (file[name] < 0) return "";
  return line[name] > 0 ? `${profile.files[file[name]]}:${line[name]}` : profile.files[file[name]];
}

const moduleOf = (profile, name) => {
  const module = profile.names.module[name];
  return module < 0 ? "" : profile.head.modules[module];
};

// Which functions a search finds, by name, source file or module: a part of them, or a regular expression between slashes.
// Gives null for no search, and throws what a bad expression is.
async function matching(profile, text, slices) {
  if (text === "") return null;
  const expression = text.length > 1 && text.startsWith("/") && text.endsWith("/");
  const wanted = text.toLowerCase();
  const regex = expression ? new RegExp(text.slice(1, -1), "i") : null;
  const is = (one) => (regex ? regex.test(one) : one.toLowerCase().includes(wanted));
  const files = profile.files.map(is);
  const modules = profile.head.modules.map(is);
  const { text: texts, file, module, function: of } = profile.names;
  const found = new Uint8Array(texts.length);
  for (let name = 0; name < texts.length; name++) {
    if (files[file[name]] || modules[module[name]] || is(texts[name])) found[of[name]] = 1;
    if ((name & 255) === 0 && slices.over) await slices.next();
  }
  return found;
}

// Of each stack whether one of its functions is among those.
async function stacksWith(profile, found, slices) {
  const { parent, name } = profile.calls;
  const within = new Uint8Array(parent.length);
  for (let call = 0; call < parent.length; call++) {
    within[call] = found[profile.names.function[name[call]]] | (parent[call] >= 0 ? within[parent[call]] : 0);
    if ((call & 4095) === 0 && slices.over) await slices.next();
  }
  return Uint8Array.from(profile.stacks.end, (call) => within[call]);
}
