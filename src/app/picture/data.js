// The data of the page: lanes with their rows, moments and lives, and what they are called.
'use strict';
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId('data').textContent);

/** Reads numbers: seven bits a byte, the lowest first. */
function reader(text) {
  const raw = atob(text);
  let at = 0;
  const number = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = raw.charCodeAt(at++);
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const signed = () => {
    const value = number();
    return value % 2 ? -(value + 1) / 2 : value / 2;
  };
  return { number, signed, ended: () => at === raw.length };
}

/** The first index from `low` on, below `high`, for which `holds`; all behind it hold as well. */
function firstIndex(low, high, holds) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle; else low = middle + 1;
  }
  return low;
}

/** Sorted times and their sums: how many intervals there are on average is a difference of two of these. */
function sums(times) {
  times.sort();
  const before = new Float64Array(times.length + 1);
  times.forEach((time, index) => { before[index + 1] = before[index] + time; });
  return (at) => {
    const count = firstIndex(0, times.length, (index) => times[index] >= at);
    return at * count - before[count];
  };
}

/** How many of these intervals there are at a time, by what goes on in them. */
function levels(rows, only) {
  const kinds = new Map();
  for (const row of rows) {
    for (let i = 0; i < row.from.length; i++) {
      if (only >= 0 && row.doing[i] !== only) continue;
      if (!kinds.has(row.doing[i])) kinds.set(row.doing[i], { from: [], to: [] });
      const kind = kinds.get(row.doing[i]);
      kind.from.push(row.from[i]);
      kind.to.push(row.to[i]);
    }
  }
  const list = [...kinds].sort((a, b) => a[0] - b[0]).map(([doing, kind]) => {
    const begun = sums(Float64Array.from(kind.from)), ended = sums(Float64Array.from(kind.to));
    const covered = (at) => begun(at) - ended(at);
    return { doing, average: (from, to) => Math.max(0, (covered(to) - covered(from)) / (to - from)) };
  });
  return list;
}

/** For each kind in a row of many: the time that those before each index take. */
function addShares(row) {
  row.shares = [...new Set(row.doing)].sort((a, b) => a - b).map((doing) => {
    const sum = new Float64Array(row.from.length + 1);
    for (let i = 0; i < row.from.length; i++) {
      sum[i + 1] = sum[i] + (row.doing[i] === doing ? row.to[i] - row.from[i] : 0);
    }
    return { doing, sum };
  });
}

const lanes = data.lanes.map((lane) => ({ ...lane, rows: [], moments: [] }));
const lives = [];
/** The intervals of each life: which row, which index. */
const partsOf = [];

function unpack() {
  const { number, signed, ended } = reader(byId('packed').textContent);
  for (const [laneNumber, lane] of lanes.entries()) {
    const rows = data.lanes[laneNumber].rows + (lane.crowd ? 1 : 0);
    for (let r = 0; r < rows; r++) {
      const count = number();
      const row = { from: new Float64Array(count), to: new Float64Array(count), doing: new Uint8Array(count),
        life: new Int32Array(count), lane, isCrowd: r === data.lanes[laneNumber].rows };
      for (let i = 0, from = 0, life = 0; i < count; i++) {
        from += number();
        row.from[i] = from;
        row.to[i] = from + number();
        row.doing[i] = number();
        life += signed();
        row.life[i] = life - 1;
        if (life > 0) (partsOf[life - 1] ??= []).push(row, i);
      }
      if (!row.isCrowd) addShares(row);
      lane.rows.push(row);
    }
    const count = number();
    const moments = { at: new Float64Array(count), sign: new Uint8Array(count), bytes: new Float64Array(count),
      text: new Int32Array(count) };
    for (let i = 0, at = 0; i < count; i++) {
      at += number();
      moments.at[i] = at;
      moments.sign[i] = number();
      moments.bytes[i] = number();
      moments.text[i] = number() - 1;
    }
    lane.moments = moments;
  }
  const count = number();
  for (let i = 0, from = 0; i < count; i++) {
    const life = { lane: number(), what: data.words[number()], identifier: number(), qos: number(), bytes: number(),
      end: data.words[number()] };
    from += signed();
    life.from = from;
    life.to = from + number();
    const acknowledged = number();
    life.acknowledged = acknowledged ? from + acknowledged - 1 : null;
    life.sent = number();
    lives.push(life);
  }
  if (!ended()) throw new Error('numbers are left over');
  for (const lane of lanes) {
    if (!lane.band) continue;
    const threads = lanes.filter((other) => other.kind === 'thread').flatMap((other) => other.rows);
    lane.levels = lane.counts >= 0 ? levels(threads, lane.counts) : levels(lane.rows.slice(-1), -1);
  }
}

function timeText(nanos) {
  // Each unit begins where the one below it would be rounded up to it.
  if (nanos < 999.5) return `${nanos.toFixed(0)} ns`;
  const [value, unit] = nanos < 999.5e3 ? [nanos / 1e3, 'µs'] : nanos < 999.5e6 ? [nanos / 1e6, 'ms'] : [nanos / 1e9, 's'];
  return `${value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${unit}`;
}

/** The last pause that has begun by then, or null. */
function pauseBefore(at) {
  return data.pauses[firstIndex(0, data.pauses.length, (index) => data.pauses[index][0] > at) - 1] ?? null;
}

/** The time since the run began, pauses included. Inside of a pause it runs as fast as that lasted. */
function realTime(at) {
  const pause = pauseBefore(at);
  if (!pause) return at;
  const [from, to, lasted, real] = pause;
  return at < to ? real + (at - from) / (to - from) * lasted : real + lasted + at - to;
}

/** A point in time, exact enough for steps of this size. */
function clockText(at, step) {
  const real = realTime(at), last = realTime(view.to);
  const [size, unit] = last >= 1e9 ? [1e9, 's'] : last >= 1e6 ? [1e6, 'ms'] : [1e3, 'µs'];
  return `${(real / size).toFixed(Math.max(0, Math.ceil(Math.log10(size / step) - 1e-9)))} ${unit}`;
}

function lifeName(life) {
  return life.identifier ? `${life.what} ${life.identifier}` : life.what;
}

/** So many of a thing: `1 byte`, `2 bytes`. */
const many = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;

function lifeText(number) {
  const life = lives[number];
  const parts = [lifeName(life)];
  if (life.qos < 3) parts.push(`QoS ${life.qos}`);
  if (life.bytes) parts.push(many(life.bytes, 'byte'));
  if (life.end) parts.push(life.end);
  const sent = life.sent > 1 ? [`sent ${life.sent} times`] : [];
  const took = life.acknowledged === null ? [] : [`acknowledged ${timeText(life.acknowledged - life.from)} after it began`];
  return [...parts, `${timeText(life.to - life.from)} in all`, ...took, ...sent].join(', ');
}

/** The intervals of a life in words, its kinds in the order in which they begin. */
function lifeSteps(number) {
  const times = new Map();
  const parts = partsOf[number] ?? [];
  for (let i = 0; i < parts.length; i += 2) {
    const [row, index] = [parts[i], parts[i + 1]];
    const doing = row.doing[index];
    times.set(doing, (times.get(doing) ?? 0) + row.to[index] - row.from[index]);
  }
  return [...times].map(([doing, time]) => `${data.looks[doing].words}: ${timeText(time)}`);
}

/** For inside of a wide box. */
function shortWords(row, index) {
  const doing = row.doing[index];
  const life = row.life[index] >= 0 ? lives[row.life[index]] : null;
  const look = data.looks[doing];
  if (!life) return look.words;
  const name = lifeName(life);
  return look.outline !== 'full' ? '' : row === row.lane.rows[0] && row.lane.kind === 'thread' ? `waits for ${name}` : name;
}

