// Zooms, moves, searches, marks and tells. Runs when something happens to the page.

function show(from, to) {
  const width = Math.min(data.span, Math.max(20, to - from));
  const begin = Math.min(Math.max(0, from), data.span - width);
  const most = Math.max(0, wholeHeight + AXIS - size.height);
  view = { from: begin, to: begin + width, top: isPrinting ? 0 : Math.min(Math.max(0, view.top), most) };
  ask();
}

function zoom(factor, x = (size.gutter + size.width) / 2) {
  const at = timeAt(x);
  show(at - (at - view.from) / factor, at + (view.to - at) / factor);
}

function move(part) {
  const by = (view.to - view.from) * part;
  show(view.from + by, view.to + by);
}

function scroll(by) {
  view.top += by;
  show(view.from, view.to);
}

function showFocus() {
  const [from, to] = data.focus ?? [0, data.span];
  show(from - (to - from) * 0.05, to + (to - from) * 0.05);
}

/** Marks a life, or none. */
function choose(life) {
  chosen = life;
  byId('chosen').textContent = life < 0 ? '' : [lifeText(life), ...lifeSteps(life)].join(' · ');
  ask();
}

let found = [], foundAt = -1;
function search(step) {
  const wanted = byId('identifier').value.trim();
  if (wanted === '') {
    byId('found').textContent = '';
    return;
  }
  if (search.last !== wanted) {
    search.last = wanted;
    found = [];
    if (/^[0-9]+$/.test(wanted)) {
      lives.forEach((life, index) => { if (life.identifier === Number(wanted)) found.push(index); });
    }
    foundAt = step > 0 ? -1 : 0;
  }
  if (found.length === 0) {
    byId('found').textContent = `nothing has the packet identifier ${wanted}`;
    return choose(-1);
  }
  foundAt = (foundAt + step + found.length) % found.length;
  byId('found').textContent = `${foundAt + 1} of ${found.length}`;
  const life = lives[found[foundAt]];
  choose(found[foundAt]);
  const around = Math.max(life.to - life.from, 1000);
  view.top = lanes[life.lane].y - 40;
  show(life.from - around, life.to + around);
}

/** The interval below the pointer, within three pixels of it. */
function intervalAt(x, y) {
  const below = y - AXIS + view.top;
  const lane = lanes.find((one) => below >= one.y && below < one.y + one.height);
  if (!lane || x < size.gutter || y < AXIS) return null;
  const inLane = below - lane.y - PAD;
  const row = lane.rows[Math.floor(inLane / ROW)];
  const near = 3 * (view.to - view.from) / (size.width - size.gutter);
  const at = timeAt(x);
  if (row && !row.isCrowd && inLane >= 0) {
    let best = -1, distance = Infinity;
    const after = firstIndex(0, row.from.length, (index) => row.to[index] >= at - near);
    for (let i = after; i < Math.min(after + 8, row.from.length); i++) {
      const away = at < row.from[i] ? row.from[i] - at : at > row.to[i] ? at - row.to[i] : 0;
      if (away < distance) [best, distance] = [i, away];
    }
    if (best >= 0 && distance <= near) return { lane, row, index: best, at };
  }
  return { lane, at, near };
}

function tipText(hit) {
  const { lane, at } = hit;
  if (hit.row) {
    const { row, index } = hit;
    const life = row.life[index];
    const own = `${data.looks[row.doing[index]].words}: ${timeText(row.to[index] - row.from[index])}`;
    return life < 0 ? `${lane.name}\n${own}` : [`${lane.name}: ${lifeText(life)}`, own, ...(lifeSteps(life).length > 1 ? lifeSteps(life) : [])].filter((line, i, all) => all.indexOf(line) === i).join('\n');
  }
  const moments = lane.moments;
  const lines = [];
  let i = firstIndex(0, moments.at.length, (index) => moments.at[index] >= at - hit.near);
  for (; i < moments.at.length && moments.at[i] <= at + hit.near && lines.length < 6; i++) {
    const text = moments.text[i] >= 0 ? `: ${data.texts[moments.text[i]]}` : moments.bytes[i] ? `: ${many(moments.bytes[i], 'byte')}` : '';
    lines.push(`${data.signs[moments.sign[i]].words}${text}`);
  }
  if (lane.levels) {
    const width = (view.to - view.from) / (size.width - size.gutter);
    for (const level of lane.levels) {
      const count = level.average(at, at + width);
      if (count > 0.005) lines.push(`${data.looks[level.doing].words}: ${count.toFixed(count < 10 ? 1 : 0)} at a time`);
    }
  }
  return lines.length ? [lane.name, ...lines].join('\n') : '';
}

function hover(event) {
  const hit = intervalAt(event.offsetX, event.offsetY);
  const text = hit ? tipText(hit) : '';
  const tip = byId('tip');
  tip.hidden = text === '';
  if (text === '') return;
  tip.textContent = `${text}\nat ${clockText(hit.at, Math.max(1, (view.to - view.from) / 1000))}`;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
  const lower = event.clientY + 16;
  tip.style.top = `${lower + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : lower}px`;
}

let drag = null;
function listen() {
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    const sideways = event.shiftKey ? event.deltaY : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
    if (sideways) move(sideways / 1000); else zoom(Math.exp(-event.deltaY / 400), Math.max(size.gutter, event.offsetX));
  }, { passive: false });
  canvas.addEventListener('pointerdown', (event) => {
    // A menu of another button swallows its end, and a second finger has no drag of its own.
    if (event.button !== 0 || drag) return;
    drag = { id: event.pointerId, x: event.clientX, y: event.clientY, view: { ...view }, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!drag) return hover(event);
    if (event.pointerId !== drag.id) return;
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    drag.moved ||= Math.abs(dx) + Math.abs(dy) > 4;
    const by = dx / (size.width - size.gutter) * (drag.view.to - drag.view.from);
    view.top = drag.view.top - dy;
    show(drag.view.from - by, drag.view.to - by);
  });
  canvas.addEventListener('pointerup', (event) => {
    if (event.pointerId !== drag?.id) return;
    if (!drag.moved) {
      const hit = intervalAt(event.offsetX, event.offsetY);
      choose(hit?.row ? hit.row.life[hit.index] : -1);
    }
    drag = null;
  });
  canvas.addEventListener('pointercancel', (event) => { if (event.pointerId === drag?.id) drag = null; });
  canvas.addEventListener('pointerleave', () => { byId('tip').hidden = true; });
  byId('search').addEventListener('submit', (event) => { event.preventDefault(); search(1); });
  byId('in').addEventListener('click', () => zoom(2));
  byId('out').addEventListener('click', () => zoom(1 / 2));
  byId('all').addEventListener('click', () => show(0, data.span));
  byId('focus').addEventListener('click', showFocus);
  const keys = {
    '+': () => zoom(2), '=': () => zoom(2), '-': () => zoom(1 / 2), '0': () => show(0, data.span), m: showFocus,
    ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), ArrowUp: () => scroll(-60), ArrowDown: () => scroll(60),
    n: () => search(1), p: () => search(-1), '/': () => byId('identifier').focus(), Escape: () => choose(-1),
  };
  addEventListener('keydown', (event) => {
    byId('tip').hidden = true;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === byId('identifier')) {
      if (event.key === 'Escape') { choose(-1); canvas.focus(); }
      return;
    }
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  addEventListener('resize', resize);
  new ResizeObserver(resize).observe(canvas.parentElement);
  dark.addEventListener('change', () => { makeFills(); legend(); ask(); });
  const print = (on) => { isPrinting = on; resize(); legend(); };
  addEventListener('beforeprint', () => print(true));
  addEventListener('afterprint', () => print(false));
}

function legend() {
  const used = new Set(lanes.flatMap((lane) => lane.rows.flatMap((row) => [...new Set(row.doing)])));
  const signs = new Set(lanes.flatMap((lane) => lane.signs));
  const entry = (words, paint) => {
    const item = document.createElement('li');
    const swatch = document.createElement('canvas');
    swatch.width = 52;
    swatch.height = 28;
    const brush = swatch.getContext('2d');
    brush.scale(2, 2);
    paint(brush);
    item.append(swatch, words);
    return item;
  };
  byId('legend').replaceChildren(
    ...[...used].sort((a, b) => a - b).map((doing) => entry(data.looks[doing].words, (brush) => box(doing, 1, 1, 24, 12, brush))),
    ...[...signs].sort((a, b) => a - b).map((sign) => entry(data.signs[sign].words, (brush) => glyph(data.signs[sign], 13, 1, 12, brush))),
  );
}

unpack();
byId('focus').hidden = !data.focus;
makeFills();
legend();
listen();
resize();

/** For tests. */
window.picture = {
  data, lanes, lives, frame,
  view: () => ({ ...view }), size: () => ({ ...size }), chosen: () => chosen, xOf, AXIS, PAD, row: () => ROW,
  totals: () => ({
    lanes: lanes.length, lives: lives.length,
    intervals: lanes.reduce((sum, lane) => sum + lane.rows.reduce((all, row) => all + row.from.length, 0), 0),
    moments: lanes.reduce((sum, lane) => sum + lane.moments.at.length, 0),
  }),
};
