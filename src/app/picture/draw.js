// Draws on one canvas. A frame draws at most a few boxes for each column of pixels and each visible row, however many
// intervals there are: binary searches find those that a column shows.
const canvas = byId('canvas');
const pen = canvas.getContext('2d');
const AXIS = 30, PAD = 7, TEXT = 12;
/** Heights, larger where few lanes leave room. */
let ROW = 15, BAND = 44, LEAST_LANE = 46;
const FONT = '12px system-ui, sans-serif', BOLD = '600 13px system-ui, sans-serif';

const dark = matchMedia('(prefers-color-scheme: dark)');
let isPrinting = false;
let fills = [], pauseFill = '', theme = {};
let view = { from: 0, to: data.span, top: 0 };
let size = { width: 0, height: 0, gutter: 0 };
/** Counts of the last frame. */
const frame = { drawn: 0, looked: 0, ms: 0, number: 0, rows: 0, columns: 0, cut: 0 };
let chosen = -1;

/** The filling of each look, as a pattern where it has one. */
function makeFills() {
  const isDark = dark.matches && !isPrinting;
  theme = isDark ? { ink: '#e8eaed', dim: '#a5abb4', paper: '#16181b', edge: '#33373d', on: '#101214' }
    : { ink: '#1b1d20', dim: '#5a5e66', paper: '#ffffff', edge: '#dfe1e5', on: '#ffffff' };
  fills = data.looks.map((look) => {
    const colour = isDark ? look.dark : look.light;
    const fill = look.filling === 'solid' ? colour : patternOf(look.filling, colour);
    return { colour, fill };
  });
  pauseFill = patternOf('rising', theme.edge);
}

function patternOf(filling, colour) {
  const tile = document.createElement('canvas');
  tile.width = tile.height = 8;
  const brush = tile.getContext('2d');
  brush.globalAlpha = 0.35;
  brush.fillStyle = colour;
  brush.fillRect(0, 0, 8, 8);
  brush.globalAlpha = 1;
  brush.strokeStyle = colour;
  brush.lineWidth = 1.6;
  const line = (x1, y1, x2, y2) => { brush.beginPath(); brush.moveTo(x1, y1); brush.lineTo(x2, y2); brush.stroke(); };
  if (filling === 'rising' || filling === 'crossed') for (const d of [-8, 0, 8]) line(d - 1, 9, d + 9, -1);
  if (filling === 'falling' || filling === 'crossed') for (const d of [-8, 0, 8]) line(d - 1, -1, d + 9, 9);
  if (filling === 'dotted') { brush.fillRect(1, 1, 2.4, 2.4); brush.fillRect(5, 5, 2.4, 2.4); }
  return pen.createPattern(tile, 'repeat');
}

const xOf = (at) => size.gutter + (at - view.from) / (view.to - view.from) * (size.width - size.gutter);
const timeAt = (x) => view.from + (x - size.gutter) / (size.width - size.gutter) * (view.to - view.from);

function box(doing, x, y, width, height, brush = pen) {
  const look = data.looks[doing], { colour, fill } = fills[doing];
  const tall = look.outline === 'full' ? height : look.outline === 'half' ? Math.round(height * 0.55) : 3;
  const top = y + Math.round((height - tall) / 2);
  frame.drawn++;
  brush.fillStyle = width < 3 ? colour : fill;
  brush.fillRect(x, top, width, tall);
  if (look.filling !== 'solid' && width >= 3) {
    brush.strokeStyle = colour;
    brush.lineWidth = 1;
    brush.strokeRect(x + 0.5, top + 0.5, width - 1, tall - 1);
  }
}

function label(text, x, y, most, colour = theme.ink, font = FONT) {
  pen.font = font;
  pen.fillStyle = colour;
  frame.drawn++;
  let shown = text;
  while (shown.length > 1 && pen.measureText(shown).width > most) shown = shown.slice(0, shown.length - 2) + '…';
  pen.fillText(shown, x, y);
}

/** One row: wide intervals as boxes; those that begin in one column of pixels as their shares of the time. */
function drawRow(row, y, height) {
  const { from, to } = row;
  const count = from.length;
  const right = size.width;
  let i = firstIndex(0, count, (index) => to[index] > view.from);
  while (i < count && from[i] < view.to) {
    frame.looked++;
    const left = Math.max(size.gutter, xOf(from[i])), end = Math.min(right, xOf(to[i]));
    if (end - left >= 2) {
      box(row.doing[i], left, y, end - left, height);
      // Shorter texts than this are of no use, and most boxes are narrower.
      const words = end - left > 44 ? shortWords(row, i) : '';
      if (words) inside(words, left, end, y, height, data.looks[row.doing[i]]);
      i++;
      continue;
    }
    const column = Math.floor(left);
    const until = timeAt(column + 1);
    let next = firstIndex(i + 1, count, (index) => from[index] >= until);
    if (next > i + 1 && xOf(to[next - 1]) - column >= 2.5) next--;
    if (next === i + 1) box(row.doing[i], column, y, 1.5, height); else drawShares(row, i, next, column, y, height);
    i = next;
  }
}

/** Words in a box, if there is room for them: on a plain ground, so that patterns do not hide them. */
function inside(words, left, end, y, height, look) {
  pen.font = FONT;
  const width = pen.measureText(words).width;
  if (width + 8 > end - left || height < TEXT || look.outline === 'thin') return;
  const solid = look.filling === 'solid';
  if (!solid) {
    pen.fillStyle = theme.paper;
    frame.drawn++;
    pen.fillRect(left + 3, y + 1, width + 4, height - 2);
  }
  label(words, left + 5, y + height / 2 + 1, width + 1, solid ? theme.on : theme.ink);
}

function drawShares(row, first, next, x, y, height) {
  const times = row.shares.map((share) => share.sum[next] - share.sum[first]);
  const all = times.reduce((sum, time) => sum + time, 0) || 1;
  let bottom = y + height;
  row.shares.forEach((share, index) => {
    const tall = times[index] / all * height;
    if (tall === 0) return;
    frame.drawn++;
    bottom -= tall;
    pen.fillStyle = fills[share.doing].colour;
    pen.fillRect(x, bottom, 1, tall);
  });
}

/** How many there are at a time: one area above the other. */
function drawBand(lane, y, height) {
  const base = new Float64Array(Math.ceil(size.width - size.gutter) + 1);
  for (const level of lane.levels) {
    pen.beginPath();
    pen.moveTo(size.gutter, y + height);
    const floor = base.slice();
    let x = size.gutter;
    for (let column = 0; column < base.length; column++, x++) {
      frame.looked++;
      base[column] += level.average(timeAt(x), timeAt(x + 1));
      const top = y + height - Math.min(1, base[column] / lane.most) * height;
      pen.lineTo(x, top);
      pen.lineTo(x + 1, top);
    }
    for (let column = base.length - 1; column >= 0; column--) {
      pen.lineTo(size.gutter + column + 1, y + height - Math.min(1, floor[column] / lane.most) * height);
    }
    pen.closePath();
    frame.drawn += base.length;
    pen.fillStyle = fills[level.doing].fill;
    pen.fill();
  }
}

/** Moments: at most one glyph for each column and sign of a lane, and texts where there is room, that of failed attempts once. */
function drawMoments(lane, y, height) {
  const { at, sign, text } = lane.moments;
  const last = new Map(), drawnAt = new Map();
  const textEnds = new Array(lane.lines).fill(0);
  let said = '';
  let i = firstIndex(0, at.length, (index) => at[index] >= view.from);
  const end = firstIndex(i, at.length, (index) => at[index] > view.to);
  const signs = lane.signs.length;
  while (i < end) {
    frame.looked++;
    const x = Math.floor(xOf(at[i]));
    const until = timeAt(x + 1);
    let next = firstIndex(i + 1, end, (index) => at[index] >= until);
    // Rare signs must not hide behind frequent ones: of a few, each is drawn.
    if (next - i <= signs * 4) for (let one = i; one < next; one++) last.set(sign[one], one);
    else last.set(sign[i], i);
    for (const [kind, one] of last) {
      // Glyphs that lie on each other cannot be told apart.
      const least = data.signs[kind].shape === 'tick' ? 1 : 8;
      if (x - (drawnAt.get(kind) ?? -least) >= least) {
        glyph(data.signs[kind], x, y, height);
        drawnAt.set(kind, x);
      }
      const words = text[one] >= 0 ? data.texts[text[one]] : '';
      if (words === '' || (words === said && data.signs[kind].low)) continue;
      let line = data.signs[kind].low ? lane.lines - 1 : 0;
      while (line < lane.lines && x <= textEnds[line]) line++;
      if (line === lane.lines) continue;
      textEnds[line] = drawTextOf(words, x, y + height / 2 + ROW * (line + 1), textEnds[line]);
      said = words;
    }
    last.clear();
    i = next;
  }
}

/** The text of a moment; at the edge it stands on the other side. Returns where it ends. */
function drawTextOf(text, x, y, free) {
  pen.font = FONT;
  const width = Math.min(420, pen.measureText(text).width);
  const isLeft = x + width > size.width && x - width > Math.max(free, size.gutter);
  label(text, isLeft ? x - width : x - 4, y, width + 1);
  return isLeft ? x + 9 : x + width + 12;
}

function glyph(look, x, y, height, brush = pen) {
  const colour = dark.matches && !isPrinting ? look.dark : look.light;
  const middle = y + height / 2;
  frame.drawn++;
  brush.strokeStyle = brush.fillStyle = colour;
  brush.lineWidth = 2;
  brush.beginPath();
  if (look.shape === 'tick') { brush.fillRect(x, y + 1, 1.5, height - 2); return; }
  if (look.shape === 'cross') {
    brush.moveTo(x - 5, middle - 5); brush.lineTo(x + 5, middle + 5);
    brush.moveTo(x + 5, middle - 5); brush.lineTo(x - 5, middle + 5);
    brush.stroke();
    return;
  }
  const tip = look.shape === 'up' ? -4 : 4;
  brush.moveTo(x, middle + tip); brush.lineTo(x + 4, middle - tip); brush.lineTo(x - 4, middle - tip);
  brush.fill();
}

let wholeHeight = 0;

/** A lane has its rows, its band, and a line of moments. */
function heightOf(lane) {
  const lines = data.lanes[lane.index].rows + (lane.signs.length ? 1 : 0) + lane.lines;
  return Math.max(LEAST_LANE, PAD * 2 + lines * ROW + (lane.band ? BAND : 0));
}

/** Gives each lane its place, in so much room if there are few. */
function place(room) {
  const sizes = (scale) => [ROW, BAND, LEAST_LANE] = [15, 44, 46].map((size) => Math.round(size * scale));
  sizes(1);
  const least = lanes.reduce((sum, lane, index) => { lane.index = index; return sum + heightOf(lane); }, 0);
  sizes(Math.min(1.6, Math.max(1, room / least)));
  let y = 0;
  lanes.forEach((lane) => {
    lane.y = y;
    lane.height = heightOf(lane);
    y += lane.height;
  });
  wholeHeight = y;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
}

/** Calls back with each time that the axis has a line for, and with the step between them. */
function eachStep(each) {
  const step = Math.max(1, niceStep((view.to - view.from) / Math.max(2, (size.width - size.gutter) / 130)));
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    const isPause = at < (pauseBefore(at)?.[1] ?? 0);
    if (!isPause) each(at, Math.round(xOf(at)) + 0.5, step);
  }
}

function drawGrid() {
  pen.strokeStyle = theme.edge;
  pen.lineWidth = 1;
  eachStep((at, x) => {
    pen.beginPath(); pen.moveTo(x, AXIS - 6); pen.lineTo(x, size.height); pen.stroke();
    frame.drawn++;
  });
}

function drawAxis() {
  let room = size.gutter;
  eachStep((at, x, step) => {
    // Behind a pause no line is at a round time.
    const text = clockText(at, data.pauses.length ? step / 10 : step);
    pen.font = FONT;
    const width = pen.measureText(text).width;
    if (x < room || x + width + 4 > size.width) return;
    label(text, x + 3, AXIS / 2 + 1, width + 1, theme.dim);
    room = x + width + 12;
  });
  const part = (size.width - size.gutter) / data.span;
  pen.fillStyle = theme.edge;
  pen.fillRect(size.gutter, 0, size.width - size.gutter, 4);
  pen.fillStyle = theme.dim;
  pen.fillRect(size.gutter + view.from * part, 0, Math.max(3, (view.to - view.from) * part), 4);
  frame.drawn += 2;
}

/** Pauses as strips: at most one for each column of pixels. Those that are narrower than a pixel have no room. */
function drawPauses() {
  const { pauses } = data;
  let i = firstIndex(0, pauses.length, (index) => pauses[index][1] > view.from);
  while (i < pauses.length && pauses[i][0] < view.to) {
    frame.looked++;
    const column = Math.floor(xOf(pauses[i][0]));
    const next = firstIndex(i + 1, pauses.length, (index) => pauses[index][0] >= timeAt(column + 1));
    const [from, to, lasted] = pauses[next - 1];
    i = next;
    const left = Math.max(size.gutter, xOf(from)), right = Math.min(size.width, xOf(to));
    if (right - left < 1) continue;
    pen.fillStyle = pauseFill;
    pen.fillRect(left, AXIS, right - left, size.height);
    frame.drawn++;
    if (right - left > 14) drawPauseText(`pause ${timeText(lasted)}`, left, right);
  }
}

/** The words of a pause, upright where it is narrower than they are. */
function drawPauseText(text, left, right) {
  pen.save();
  pen.font = FONT;
  const wide = pen.measureText(text).width;
  pen.translate((left + right) / 2, AXIS + 10);
  if (wide + 8 > right - left) pen.rotate(Math.PI / 2); else pen.translate(-wide / 2, 0);
  pen.fillStyle = theme.paper;
  pen.fillRect(-2, -8, wide + 4, 16);
  frame.drawn++;
  label(text, 0, 0, 200, theme.dim);
  pen.restore();
}

/** The life that is marked: its intervals outlined in every lane. */
function drawChosen() {
  if (chosen < 0) return;
  const parts = partsOf[chosen] ?? [];
  for (let i = 0; i < parts.length && i < 200; i += 2) {
    const [row, index] = [parts[i], parts[i + 1]];
    const lane = row.lane;
    const at = lane.rows.indexOf(row);
    const left = Math.max(size.gutter, xOf(row.from[index])), right = Math.min(size.width, xOf(row.to[index]));
    const y = AXIS + lane.y - view.top + PAD + at * ROW;
    if (right < size.gutter || left > size.width) continue;
    if (row.isCrowd) box(row.doing[index], left, y + BAND / 2 - ROW / 2, Math.max(2, right - left), ROW - 3);
    frame.drawn++;
    pen.strokeStyle = theme.ink;
    pen.lineWidth = 2;
    pen.strokeRect(left - 1.5, y - 1 + (row.isCrowd ? BAND / 2 - ROW / 2 - 1 : 0), Math.max(4, right - left + 3), ROW);
  }
  pen.setLineDash([4, 3]);
  pen.lineWidth = 1;
  for (const at of [lives[chosen].from, lives[chosen].acknowledged, lives[chosen].to]) {
    if (at === null || at < view.from || at > view.to) continue;
    pen.beginPath(); pen.moveTo(xOf(at), AXIS); pen.lineTo(xOf(at), size.height); pen.stroke();
    frame.drawn++;
  }
  pen.setLineDash([]);
}

function drawLane(lane) {
  const top = AXIS + lane.y - view.top;
  if (top > size.height || top + lane.height < AXIS) return;
  pen.fillStyle = theme.edge;
  pen.fillRect(0, top + lane.height - 1, size.width, 1);
  frame.drawn++;
  pen.save();
  pen.beginPath(); pen.rect(size.gutter, Math.max(AXIS, top), size.width, lane.height); pen.clip();
  let y = top + PAD;
  lane.rows.filter((row) => !row.isCrowd).forEach((row) => {
    frame.rows++;
    drawRow(row, y, ROW - 3);
    y += ROW;
  });
  if (lane.band) { frame.rows++; drawBand(lane, y, BAND - 4); }
  if (lane.signs.length) {
    frame.rows++;
    const isAlone = lane.rows.length === 0;
    drawMoments(lane, isAlone ? top + PAD : y, isAlone ? lane.height - 2 * PAD : ROW - 3);
  }
  pen.restore();
  label(lane.name, 12, top + PAD + 8, size.gutter - 20, theme.ink, BOLD);
  if (lane.note) label(lane.note, 12, top + PAD + 24, size.gutter - 20, theme.dim);
  if (lane.band) {
    const most = lane.crowd ? `at most ${lane.most} more` : `at most ${lane.most}`;
    label(most, 12, lane.crowd ? y + BAND / 2 - 2 : top + PAD + (lane.note ? 40 : 24), size.gutter - 20, theme.dim);
  }
}

/** Paper has an end: says how many lanes are not on it. */
function drawCut() {
  frame.cut = isPrinting ? lanes.filter((lane) => AXIS + lane.y + lane.height > size.height).length : 0;
  if (frame.cut === 0) return;
  pen.fillStyle = theme.paper;
  pen.fillRect(0, size.height - 24, size.width, 24);
  label(`${many(frame.cut, 'lane')} more had no room on paper`, 12, size.height - 12, size.width - 24);
}

function draw() {
  const begin = performance.now();
  Object.assign(frame, { drawn: 0, looked: 0, rows: 0, number: frame.number + 1, columns: size.width - size.gutter });
  pen.textBaseline = 'middle';
  pen.fillStyle = theme.paper;
  pen.fillRect(0, 0, size.width, size.height);
  pen.save();
  drawGrid();
  pen.beginPath(); pen.rect(0, AXIS, size.width, size.height); pen.clip();
  drawPauses();
  lanes.forEach(drawLane);
  pen.save();
  pen.beginPath(); pen.rect(size.gutter, AXIS, size.width, size.height); pen.clip();
  drawChosen();
  pen.restore();
  pen.restore();
  drawAxis();
  drawCut();
  frame.ms = performance.now() - begin;
  byId('view').textContent = `${timeText(view.to - view.from)} shown, from ${clockText(view.from, Math.max(1, (view.to - view.from) / 1000))}`;
}

let isAsked = false;
function ask() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => { isAsked = false; draw(); });
}

function resize() {
  const room = canvas.parentElement;
  // Paper has no window to scroll in: everything is drawn, up to a height that canvases allow.
  if (isPrinting) place(0);
  const height = isPrinting ? Math.min(AXIS + wholeHeight, 8000) : Math.max(200, room.clientHeight);
  const width = isPrinting ? 1040 : room.clientWidth;
  const ratio = isPrinting ? 2 : window.devicePixelRatio || 1;
  if (size.width === width && size.height === height && size.ratio === ratio) return;
  size = { width, height, gutter: Math.min(230, Math.round(width * 0.3)), ratio };
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.width = isPrinting ? '' : `${width}px`;
  canvas.style.height = isPrinting ? '' : `${height}px`;
  canvas.classList.toggle('low', height < width);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (!isPrinting) place(height - AXIS);
  makeFills();
  show(view.from, view.to);
  // At once: a canvas of a new size is empty.
  draw();
}

