// The map explorer: points on a canvas, and what lies under each. Text of others is only ever set as textContent.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const canvas = at("map"), context = canvas.getContext("2d"), card = at("card");
const total = data.labels.length;
const MARGIN = 24, LARGEST_ZOOM = 60, LISTED = 500;
const OUTSIDE = 96;  // pixels beyond the edges that are painted too, so that no point need be cut

const shown = { method: data.methods.length - 1, stage: data.stages.length - 1, step: data.checkpoints.length - 1, colour: "label" };
const view = { x: 0, y: 0, zoom: 1 };         // what is added to a point's place, after the zoom, in pixels
let positions = new Float32Array(2 * total);  // where points are drawn: 0 to 1 both ways, and on the way in between
let found = null;                             // Uint8Array of the points that are searched for, or null
let focused = null;                           // the class that the legend singles out, or null
let chosen = new Set();                       // of the lasso
let hovered = -1, outline = [], frame = 0, width = 0, height = 0, looks = [], looksOf = [];

// ---- What is shown

const places = data.maps.map((map) => {
  const bytes = Uint8Array.from(atob(map.places), (letter) => letter.charCodeAt(0));
  const numbers = new DataView(bytes.buffer);
  return Float32Array.from({ length: 2 * total }, (_, i) => numbers.getUint16(2 * i, true) / 65535);
});
const number = () => (shown.step * data.stages.length + shown.stage) * data.methods.length + shown.method;
const checkpoint = () => data.checkpoints[shown.step];
const wrong = (i) => checkpoint().taken[i] !== data.labels[i];

let moving = 0;
function show(animated) {
  const target = places[number()], from = positions, start = performance.now();
  const still = !animated || matchMedia("(prefers-reduced-motion: reduce)").matches;
  const mine = ++moving;
  const advance = (now) => {
    if (mine !== moving) return;  // another map has been asked for meanwhile
    const passed = still ? 1 : Math.min(1, Math.max(0, now - start) / 450), part = passed * passed * (3 - 2 * passed);
    positions = part === 1 ? target : from.map((value, i) => value + part * (target[i] - value));
    draw();
    if (part < 1) requestAnimationFrame(advance);
  };
  advance(start);
  describe();
  recolour();
}

function describe() {
  const { quality } = data.maps[number()], { step, epoch } = checkpoint();
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  for (const name of ["trustworthiness", "silhouette_map", "silhouette_activations"]) {
    at(name).textContent = quality[name] === null ? "\u2013" : quality[name].toFixed(3);
  }
  for (const name of ["knn_map", "knn_activations"]) at(name).textContent = percent(quality[name]);
  at("accuracy").textContent = percent(1 - data.labels.filter((_, i) => wrong(i)).length / total);
  at("stage-name").textContent = data.stages[shown.stage];
  at("step-name").textContent = `step ${step.toLocaleString("en")}` + (epoch === null ? "" : `, epoch ${+epoch.toFixed(1)}`);
  for (const button of at("methods").querySelectorAll("button")) {
    button.hidden = !data.methods.includes(button.dataset.method);
    button.setAttribute("aria-pressed", String(data.methods[shown.method] === button.dataset.method));
  }
}

// ---- Colours and shapes

function recolour() {
  const { taken, confidence } = checkpoint();
  if (shown.colour === "mistake") {
    looks = [["#94a4a2", "o", "right"], ["#d1232a", "D", "wrong"]];
    looksOf = data.labels.map((_, i) => Number(wrong(i)));
  } else if (shown.colour === "confidence") {
    const levels = data.levels.length;
    looks = data.levels.map((colour, i) => [colour, "o", `from ${Math.round((100 * i) / levels)} %`]);
    looksOf = confidence.map((value) => Math.min(levels - 1, Math.floor(value * levels)));
  } else {
    looks = data.looks.map(([colour, shape], i) => [colour, shape, data.classes[i]]);
    looksOf = shown.colour === "label" ? data.labels : taken;
  }
  const titles = { label: "Labels", taken: "Predictions", mistake: "Mistakes", confidence: "Confidence" };
  at("legend-title").textContent = titles[shown.colour];
  const counts = looks.map(() => 0);
  for (const look of looksOf) counts[look]++;
  if (!counts[focused]) focused = null;
  at("legend").replaceChildren(...looks.flatMap(([colour, shape, name], i) => {
    if (!counts[i]) return [];
    const button = document.createElement("button"), sample = document.createElement("canvas");
    button.type = "button";
    button.title = `${counts[i].toLocaleString("en")} images; click to single them out`;
    button.setAttribute("aria-pressed", String(focused === i));
    sample.width = sample.height = 32;
    stamp(sample.getContext("2d"), 16, 11, colour, shape);
    button.append(sample, name);
    button.dataset.look = i;
    button.onclick = () => {
      focused = focused === i ? null : i;
      recolour();
      at("legend").querySelector(`[data-look="${i}"]`)?.focus();  // the buttons are new
    };
    return [button];
  }));
  draw();
}

function stamp(pen, middle, radius, colour, shape, ring) {
  pen.beginPath();
  const corners = { "^": 3, D: 4 }[shape];
  for (let k = 0; k < corners; k++) {
    const turn = (2 * Math.PI * k) / corners;
    pen.lineTo(middle + 1.2 * radius * Math.sin(turn), middle - 1.2 * radius * Math.cos(turn));
  }
  if (shape === "s") pen.rect(middle - 0.85 * radius, middle - 0.85 * radius, 1.7 * radius, 1.7 * radius);
  if (shape === "o") pen.arc(middle, middle, radius, 0, 2 * Math.PI);
  pen.closePath();
  pen.fillStyle = colour;
  pen.fill();
  if (ring) { pen.strokeStyle = ring; pen.lineWidth = Math.max(1, radius / 4); pen.stroke(); }
}

// ---- Drawing

// A point of each look is drawn once, and its pixels are copied from then on: with 10,000 points a few times as fast as
// drawing them all where no graphics card helps.
const stamps = new Map();
const ink = () => getComputedStyle(document.body).color;
function stampOf(colour, shape, size, state) {
  const key = `${colour} ${shape} ${size} ${state}`;
  if (!stamps.has(key)) {
    const across = 2 * Math.ceil(size * 1.7) + 2, pen = new OffscreenCanvas(across, across).getContext("2d");
    pen.globalAlpha = state === "dim" ? 0.13 : 1;
    if (state === "chosen") stamp(pen, across / 2, 1.25 * size, colour, shape, ink());
    else stamp(pen, across / 2, size, colour, shape);
    const { data: bytes } = pen.getImageData(0, 0, across, across), words = new Uint32Array(bytes.buffer);
    const inside = [...words.keys()].filter((i) => bytes[4 * i + 3]);
    stamps.set(key, {
      words: Uint32Array.from(inside, (i) => words[i]),
      opacity: Uint8Array.from(inside, (i) => bytes[4 * i + 3]),
      across: Int16Array.from(inside, (i) => (i % across) - across / 2),
      down: Int16Array.from(inside, (i) => Math.floor(i / across) - across / 2),
    });
  }
  return stamps.get(key);
}

const side = () => Math.max(1, Math.min(width, height) - 2 * MARGIN);
const screen = (i) => [
  width / 2 + view.x + view.zoom * side() * (positions[2 * i] - 0.5),
  height / 2 + view.y - view.zoom * side() * (positions[2 * i + 1] - 0.5),
];
const dimmed = (i) => (found !== null && !found[i]) || (focused !== null && looksOf[i] !== focused);

function draw() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; paint(); });
}

function paint() {
  const dense = devicePixelRatio || 1, radius = Math.min(9, (total > 5000 ? 2 : total > 1000 ? 2.8 : 4) * Math.pow(view.zoom, 0.35));
  const size = Math.round(radius * dense * 2) / 2;
  const wide = canvas.width + 2 * OUTSIDE, high = canvas.height + 2 * OUTSIDE;
  const image = context.createImageData(wide, high), bytes = image.data, words = new Uint32Array(bytes.buffer);
  const scale = dense * view.zoom * side();
  const left = OUTSIDE + dense * (width / 2 + view.x) - scale / 2, top = OUTSIDE + dense * (height / 2 + view.y) + scale / 2;
  const layers = Uint8Array.from(looksOf, (_, i) => (chosen.has(i) ? 2 : dimmed(i) ? 0 : 1));
  const order = shown.colour === "mistake" ? [0, 1] : [null];  // mistakes lie above what is right
  for (const [layer, state] of ["dim", "plain", "chosen"].entries()) {
    const dots = looks.map(([colour, shape]) => stampOf(colour, shape, size, state));
    for (const only of order) {
      for (let i = 0; i < total; i++) {
        if (layers[i] !== layer || (only !== null && looksOf[i] !== only)) continue;
        const x = Math.round(left + scale * positions[2 * i]), y = Math.round(top - scale * positions[2 * i + 1]);
        if (x < OUTSIDE / 2 || y < OUTSIDE / 2 || x > wide - OUTSIDE / 2 || y > high - OUTSIDE / 2) continue;
        const dot = dots[looksOf[i]];
        for (let k = 0; k < dot.words.length; k++) {
          const pixel = (y + dot.down[k]) * wide + x + dot.across[k];
          if (dot.opacity[k] >= bytes[4 * pixel + 3]) words[pixel] = dot.words[k];
        }
      }
    }
  }
  context.putImageData(image, -OUTSIDE, -OUTSIDE);
  if (hovered >= 0) {
    const [x, y] = screen(hovered);
    context.strokeStyle = ink();
    context.lineWidth = 2 * dense;
    context.beginPath();
    context.arc(x * dense, y * dense, size + 4 * dense, 0, 7);
    context.stroke();
  }
  if (outline.length) {
    context.strokeStyle = ink();
    context.lineWidth = 1.5 * dense;
    context.setLineDash([6 * dense, 4 * dense]);
    context.beginPath();
    for (const [x, y] of outline) context.lineTo(x * dense, y * dense);
    context.closePath();
    context.stroke();
    context.setLineDash([]);
  }
}

function fit() {
  width = canvas.clientWidth;
  height = canvas.clientHeight;
  canvas.width = Math.round(width * (devicePixelRatio || 1));
  canvas.height = Math.round(height * (devicePixelRatio || 1));
  draw();
}

// ---- The image under a point

const sheets = data.thumbnails.sheets.map((address) => {
  const image = new Image();
  image.onload = () => hover(hovered);
  image.src = address;
  return image;
});

function hover(i) {
  if (i !== hovered) draw();
  hovered = i;
  card.hidden = i < 0;
  if (i < 0) return;
  const { side: tile, across, each } = data.thumbnails, { taken, confidence } = checkpoint();
  const picture = card.querySelector("canvas"), place = i % each, sheet = sheets[Math.floor(i / each)];
  picture.width = picture.height = tile;
  picture.style.imageRendering = tile < 64 ? "pixelated" : "auto";
  if (sheet.complete) picture.getContext("2d").drawImage(sheet, (place % across) * tile, Math.floor(place / across) * tile, tile, tile, 0, 0, tile, tile);
  const line = (text, kind) => Object.assign(document.createElement("div"), { textContent: text, className: kind });
  card.lastElementChild.replaceChildren(
    line(`is ${data.classes[data.labels[i]]}`, "label"),
    line(`taken for ${data.classes[taken[i]]}`, wrong(i) ? "wrong" : "right"),
    line(`confidence ${(100 * confidence[i]).toFixed(1)} %`, "confidence"),
    line(data.ids[i], "id"),
  );
  const [x, y] = screen(i), box = card.getBoundingClientRect();
  card.style.left = `${Math.max(4, x + 16 + box.width > width ? x - 16 - box.width : x + 16)}px`;
  card.style.top = `${Math.max(4, Math.min(y - box.height / 2, height - box.height - 4))}px`;
}

function nearest(x, y, reach) {
  let best = -1, least = reach * reach;
  for (let i = 0; i < total; i++) {
    const [px, py] = screen(i), apart = (px - x) ** 2 + (py - y) ** 2;
    if (apart < least && !dimmed(i)) { best = i; least = apart; }
  }
  return best;
}

// ---- Moving, zooming, the lasso

function zoom(factor, x, y) {
  const wanted = Math.min(LARGEST_ZOOM, Math.max(0.5, view.zoom * factor)), ratio = wanted / view.zoom;
  view.x = x - width / 2 - ratio * (x - width / 2 - view.x);  // what is under the pointer stays there
  view.y = y - height / 2 - ratio * (y - height / 2 - view.y);
  view.zoom = wanted;
  hover(-1);
  draw();
}

const fingers = new Map();
let drawing = false, moved = 0;
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const pinch = () => {  // where two fingers are, and how far apart
  const [[ax, ay], [bx, by]] = fingers.values();
  return [(ax + bx) / 2, (ay + by) / 2, Math.hypot(ax - bx, ay - by)];
};

canvas.onpointerdown = (event) => {
  if (event.button) return;  // another button than the main one
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, place(event));
  moved = 0;
  drawing = fingers.size === 1 && (event.shiftKey || at("lasso").ariaPressed === "true");
  outline = drawing ? [place(event)] : [];
};
canvas.onpointermove = (event) => {
  const [x, y] = place(event), before = fingers.get(event.pointerId);
  if (!before) return hover(nearest(x, y, 14));
  const pinched = fingers.size === 2 ? pinch() : null;
  fingers.set(event.pointerId, [x, y]);
  moved += Math.hypot(x - before[0], y - before[1]);
  if (drawing) { outline.push([x, y]); return draw(); }
  if (fingers.size > 2) return undefined;
  const [dx, dy] = pinched ? pinch().map((value, i) => value - pinched[i]) : [x - before[0], y - before[1]];
  view.x += dx;
  view.y += dy;
  if (pinched) { const [cx, cy, apart] = pinch(); zoom(apart / Math.max(1, pinched[2]), cx, cy); }
  if (moved > 4) hover(-1);
  return draw();
};
canvas.onpointerup = canvas.onpointercancel = (event) => {
  if (!fingers.delete(event.pointerId)) return;
  if (drawing && event.type === "pointerup") {
    if (moved > 4) choose(data.ids.map((_, i) => i).filter((i) => !dimmed(i) && within(...screen(i), outline)));
  } else if (moved <= 4) hover(nearest(...place(event), 20));
  drawing = false;
  outline = [];
  draw();
};
canvas.onpointerleave = (event) => { if (event.pointerType === "mouse") hover(-1); };  // a finger leaves when it is lifted
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
}, { passive: false });
canvas.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;  // the browser's own, which make text larger, for one
  const by = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
  if (by) { view.x += by[0]; view.y += by[1]; draw(); }
  else if ("+=".includes(event.key)) zoom(1.3, width / 2, height / 2);
  else if (event.key === "-") zoom(1 / 1.3, width / 2, height / 2);
  else if (event.key === "0") whole();
  else return;
  event.preventDefault();
};
function whole() { Object.assign(view, { x: 0, y: 0, zoom: 1 }); hover(-1); draw(); }

function within(x, y, corners) {  // whether a line to the right crosses the outline an odd number of times
  let inside = false;
  corners.forEach(([ax, ay], i) => {
    const [bx, by] = corners.at(i - 1);
    if (ay > y !== by > y && x < ax + ((y - ay) / (by - ay)) * (bx - ax)) inside = !inside;
  });
  return inside;
}

// ---- What is chosen

function choose(points) {
  chosen = new Set(points);
  const many = `${points.length.toLocaleString("en")} ${points.length === 1 ? "image" : "images"}`;
  at("count").textContent = points.length
    ? many + (points.length > LISTED ? `; the first ${LISTED}:` : "")
    : "Nothing yet: draw around points.";
  at("exports").hidden = !points.length;
  at("chosen").replaceChildren(...points.slice(0, LISTED).map((i) => {
    const item = document.createElement("li");
    item.textContent = `${data.ids[i]} \u2013 ${data.classes[data.labels[i]]}` + (wrong(i) ? `, taken for ${data.classes[checkpoint().taken[i]]}` : "");
    item.tabIndex = 0;  // with a keyboard, too
    item.onpointerenter = item.onfocus = () => hover(i);
    return item;
  }));
  draw();
}

function download(name, lines) {
  const address = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/plain" }));
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
// A spreadsheet would take a name that begins so for a formula; behind an apostrophe it is text.
const quoted = (value) => `"${String(value).replace(/^[=+@\t\r-]/, "'$&").replaceAll('"', '""')}"`;
at("text").onclick = () => download("ids.txt", [...chosen].map((i) => data.ids[i]));
at("csv").onclick = () => download("chosen.csv", ["id,label,prediction,confidence"].concat([...chosen].map((i) =>
  [quoted(data.ids[i]), quoted(data.classes[data.labels[i]]), quoted(data.classes[checkpoint().taken[i]]), checkpoint().confidence[i]].join(","))));
at("clear").onclick = () => choose([]);

// ---- The controls

function find() {
  const wanted = at("find").value.trim().toLowerCase(), names = data.classes.map((name) => name.toLowerCase());
  const exactly = names.includes(wanted);  // of ImageNet's names, two are "crane"
  const named = names.map((name) => (exactly ? name === wanted : name.includes(wanted)));
  found = wanted ? Uint8Array.from(data.ids, (id, i) => named[data.labels[i]] || (!exactly && id.toLowerCase().includes(wanted))) : null;
  const first = found ? found.indexOf(1) : -1, many = found ? found.reduce((sum, one) => sum + one, 0) : 0;
  at("find").setCustomValidity(found && !many ? "No class and no record id has this in it." : "");
  at("find").reportValidity();
  hover(many === 1 ? first : -1);
  draw();
}
at("find").oninput = find;
at("classes").replaceChildren(...data.classes.map((value) => Object.assign(document.createElement("option"), { value })));
at("colour").onchange = (event) => { shown.colour = event.target.value; focused = null; recolour(); };
at("lasso").onclick = () => {
  const pressed = at("lasso").ariaPressed !== "true";
  at("lasso").ariaPressed = String(pressed);
  canvas.classList.toggle("lasso", pressed);
};
at("whole").onclick = whole;
for (const [name, list] of [["stage", data.stages], ["step", data.checkpoints]]) {
  const slider = at(name);
  slider.max = list.length - 1;
  slider.value = shown[name];
  slider.hidden = list.length === 1;
  slider.oninput = () => { shown[name] = Number(slider.value); hover(-1); choose([...chosen]); show(true); };
}
for (const button of at("methods").querySelectorAll("button")) {
  button.onclick = () => { shown.method = data.methods.indexOf(button.dataset.method); hover(-1); show(true); };
}
matchMedia("(prefers-color-scheme: dark)").onchange = () => { stamps.clear(); draw(); };
new ResizeObserver(fit).observe(canvas);
choose([]);
show(false);
fit();
window.explorer = { screen, paint };  // for the browser's console, and for tests
