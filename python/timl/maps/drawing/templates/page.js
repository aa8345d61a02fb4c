// A map that pans and zooms: pictures of its layers on a canvas, in the map's own grid.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const canvas = element("map");
const paint = canvas.getContext("2d");
const over = document.createElement("canvas"); // the stripes, as large as the canvas
const probe = document.createElement("canvas"); // one cell, to read its colour
probe.width = probe.height = 1;
const probing = probe.getContext("2d", { willReadFrequently: true });

const MOST_PIXELS = 64; // of the screen, for a cell, when zoomed in most
const view = { column: data.width / 2, row: data.height / 2, scale: 1 }; // the middle; pixels a cell
let layer = data.layers[0];
let pointer = null; // where it is on the canvas; null: the middle counts
let fitted = false;
let due = false;

// ---- from cells to the screen, to degrees and to metres

const across = () => view.scale * data.stretch; // pixels a column
const toScreen = (column, row) => [
  (column - view.column) * across() + canvas.clientWidth / 2,
  (row - view.row) * view.scale + canvas.clientHeight / 2,
];
const toCell = (x, y) => [
  (x - canvas.clientWidth / 2) / across() + view.column,
  (y - canvas.clientHeight / 2) / view.scale + view.row,
];

/** Latitude and longitude of a place, linear between those of the mesh. */
function degrees(column, row) {
  const last = data.mesh.lats.length - 1;
  const place = (share) => {
    const at = Math.min(Math.max(Math.floor(share * last), 0), last - 1);
    return [at, share * last - at];
  };
  const [i, down] = place(row / data.height);
  const [j, right] = place(column / data.width);
  const between = (of) =>
    (1 - down) * ((1 - right) * of[i][j] + right * of[i][j + 1]) +
    down * ((1 - right) * of[i + 1][j] + right * of[i + 1][j + 1]);
  return [between(data.mesh.lats), between(data.mesh.lons)];
}

/** Metres east and north from one place to a near one, on the ellipsoid of WGS 84. */
function groundWay([lat, lon], [toLat, toLon]) {
  const radians = Math.PI / 180;
  const middle = ((lat + toLat) / 2) * radians;
  const flattening = 1 / 298.257223563;
  const squared = flattening * (2 - flattening);
  const shrinking = 1 - squared * Math.sin(middle) ** 2;
  const wide = 6378137 / Math.sqrt(shrinking);
  const long = (wide * (1 - squared)) / shrinking;
  return [wide * Math.cos(middle) * (toLon - lon) * radians, long * (toLat - lat) * radians];
}

// ---- drawing

function draw() {
  due = false;
  const dots = window.devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  paint.setTransform(dots, 0, 0, dots, 0, 0);
  paint.clearRect(0, 0, wide, high);
  const [left, top] = toScreen(0, 0);
  const [right, bottom] = toScreen(data.width, data.height);
  paint.fillStyle = data.noData;
  paint.fillRect(left, top, right - left, bottom - top);
  if (data.imagery && element("imagery").checked) drawPicture(paint, data.imagery.picture);
  paint.globalAlpha = element("opacity").value / 100;
  drawPicture(paint, layer.picture);
  paint.globalAlpha = 1;
  if (data.unlike && element("unlike").checked) drawStripes(dots);
  if (data.points.length && element("points").checked) data.points.forEach(drawPoint);
  if (!pointer && document.activeElement === canvas) drawCross(wide / 2, high / 2);
  drawScale();
}

/** Draw what is visible of a picture that covers the map. */
function drawPicture(onto, picture) {
  const [left, top] = toCell(0, 0);
  const [right, bottom] = toCell(canvas.clientWidth, canvas.clientHeight);
  const x = Math.max(0, Math.floor(left));
  const y = Math.max(0, Math.floor(top));
  const x2 = Math.min(data.width, Math.ceil(right));
  const y2 = Math.min(data.height, Math.ceil(bottom));
  if (x2 <= x || y2 <= y) return;
  const [fromX, fromY] = toScreen(x, y);
  const [toX, toY] = toScreen(x2, y2);
  const finer = [picture.width / data.width, picture.height / data.height]; // imagery may be finer
  onto.imageSmoothingEnabled = view.scale < 1;
  onto.drawImage(
    picture, x * finer[0], y * finer[1], (x2 - x) * finer[0], (y2 - y) * finer[1],
    fromX, fromY, toX - fromX, toY - fromY);
}

function drawStripes(dots) {
  over.width = canvas.width;
  over.height = canvas.height;
  const stripes = over.getContext("2d");
  stripes.setTransform(dots, 0, 0, dots, 0, 0);
  drawPicture(stripes, data.unlike.picture);
  stripes.globalCompositeOperation = "source-in";
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const line = tile.getContext("2d");
  line.lineWidth = 1.5;
  data.unlike.colours.forEach((colour, number) => {
    line.beginPath();
    line.strokeStyle = colour;
    for (let along = -8 + 2 * number; along <= 16; along += 8) {
      line.moveTo(along - 9, 9);
      line.lineTo(along + 1, -1);
    }
    line.stroke();
  });
  stripes.fillStyle = stripes.createPattern(tile, "repeat");
  stripes.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  paint.drawImage(over, 0, 0, canvas.clientWidth, canvas.clientHeight);
}

function drawPoint(point) {
  const [x, y] = toScreen(point.column, point.row);
  paint.beginPath();
  const kind = data.kinds[point.kind];
  if (kind.round) paint.arc(x, y, 5.5, 0, 2 * Math.PI);
  else paint.rect(x - 4.5, y - 4.5, 9, 9);
  paint.fillStyle = kind.colour;
  paint.strokeStyle = data.edge;
  paint.lineWidth = 1.3;
  paint.fill();
  paint.stroke();
}

function drawCross(x, y) {
  for (const [colour, width] of [["#fff", 4], ["#000", 2]]) {
    paint.beginPath();
    paint.moveTo(x - 12, y);
    paint.lineTo(x + 12, y);
    paint.moveTo(x, y - 12);
    paint.lineTo(x, y + 12);
    paint.strokeStyle = colour;
    paint.lineWidth = width;
    paint.stroke();
  }
}

/** Make the scale bar a round length, right in the middle of what is seen. */
function drawScale() {
  const half = 50 / across();
  const ends = [-half, half].map((step) => degrees(view.column + step, view.row));
  const pixel = Math.hypot(...groundWay(...ends)) / 100; // metres
  const most = 130 * pixel;
  const power = 10 ** Math.floor(Math.log10(most));
  const metres = [5, 2, 1].map((times) => times * power).find((length) => length <= most);
  const bar = element("scale");
  bar.style.width = `${metres / pixel}px`;
  bar.firstElementChild.textContent = lengthText(metres);
}

const lengthText = (metres) =>
  metres >= 1000 ? `${+(metres / 1000).toPrecision(3)} km` : `${+metres.toPrecision(3)} m`;

function refresh() {
  if (!due) requestAnimationFrame(draw);
  due = true;
}

// ---- what is at a place

/** Number of a cell's colour in a layer, from 0; -1 where there is no data. */
function colourNumber(of, column, row) {
  probing.clearRect(0, 0, 1, 1);
  probing.drawImage(of.picture, column, row, 1, 1, 0, 0, 1, 1);
  const [red, green, blue, alpha] = probing.getImageData(0, 0, 1, 1).data;
  if (alpha < 128) return -1;
  // the nearest colour: some browsers change what is read a little, against fingerprinting
  const far = of.palette.map(([r, g, b]) => (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2);
  return far.indexOf(Math.min(...far));
}

function valueText(of, column, row) {
  const number = colourNumber(of, Math.floor(column), Math.floor(row));
  if (number < 0) return data.noDataName;
  if (of.classes.length) return of.classes[number];
  const text = (number * of.step).toFixed(of.decimals);
  return of.openEnded && number === of.palette.length - 1 ? `${text} or more` : text;
}

function placeText([lat, lon]) {
  const east = ((((lon + 180) % 360) + 360) % 360) - 180;
  const text = (value, plus, minus) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;
  return `${text(lat, "N", "S")}, ${text(east, "E", "W")}`;
}

function nearestPoint(x, y) {
  let [best, least] = [null, 12 ** 2];
  for (const point of data.points) {
    const [pointX, pointY] = toScreen(point.column, point.row);
    const squared = (pointX - x) ** 2 + (pointY - y) ** 2;
    if (squared < least) [best, least] = [point, squared];
  }
  return best;
}

/** Say what is at the pointer, or in the middle for who moves by keys. */
function describe() {
  const [x, y] = pointer || [canvas.clientWidth / 2, canvas.clientHeight / 2];
  const [column, row] = toCell(x, y);
  const inside = column >= 0 && row >= 0 && column < data.width && row < data.height;
  const place = inside ? placeText(degrees(column, row)) : "outside the map";
  element("at-place").textContent = place;
  const texts = [place];
  for (const of of data.layers) {
    const text = inside ? valueText(of, column, row) : "–";
    element(`at-${of.band}`).textContent = text;
    texts.push(`${of.title}: ${text}`);
  }
  if (data.points.length) {
    const point = nearestPoint(x, y);
    const text = point ? [point.name, data.kinds[point.kind].name] : ["–"];
    element("at-point").textContent = text.filter(Boolean).join(": ");
    if (point) texts.push(element("at-point").textContent);
  }
  element("at-heading").textContent = pointer ? "At the pointer" : "In the middle";
  return texts.join("; ");
}

function showLegend() {
  const legend = element("legend");
  legend.replaceChildren();
  element("meaning").textContent = layer.meaning;
  const colours = layer.palette.map((parts) => `rgb(${parts.join(",")})`);
  if (layer.classes.length) {
    layer.classes.forEach((name, number) => {
      const line = legend.appendChild(document.createElement("div"));
      line.appendChild(document.createElement("i")).style.background = colours[number];
      line.append(` ${name}`);
    });
    return;
  }
  const ramp = legend.appendChild(document.createElement("div"));
  ramp.className = "ramp";
  ramp.style.background = `linear-gradient(to right, ${colours.join(",")})`;
  if (layer.mark !== null) {
    ramp.appendChild(document.createElement("b")).style.left = `${(100 * layer.mark) / layer.top}%`;
  }
  const numbers = legend.appendChild(document.createElement("div"));
  numbers.className = "numbers";
  for (const share of [0, 0.5, 1]) {
    const text = `${+(share * layer.top).toFixed(3)}`;
    const end = share === 1 && layer.openEnded ? " or more" : "";
    numbers.appendChild(document.createElement("span")).textContent = text + end;
  }
}

// ---- moving

function fit() {
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  view.column = data.width / 2;
  view.row = data.height / 2;
  view.scale = 0.95 * Math.min(wide / (data.width * data.stretch), high / data.height);
}

/** Zoom so that the place under x, y stays there. */
function zoom(times, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const [column, row] = toCell(x, y);
  const least = 0.5 * Math.min(
    canvas.clientWidth / (data.width * data.stretch), canvas.clientHeight / data.height);
  view.scale = Math.min(Math.max(view.scale * times, least), Math.max(MOST_PIXELS, 2 * least));
  const [nowColumn, nowRow] = toCell(x, y);
  moveBy(column - nowColumn, row - nowRow);
}

function moveBy(columns, rows) {
  view.column = Math.min(Math.max(view.column + columns, 0), data.width);
  view.row = Math.min(Math.max(view.row + rows, 0), data.height);
  refresh();
}

const fingers = new Map(); // where each pressed pointer was last
const onCanvas = (event) => [event.offsetX, event.offsetY];

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, onCanvas(event));
  pointer = onCanvas(event);
  describe();
});
canvas.addEventListener("pointermove", (event) => {
  const now = onCanvas(event);
  const before = fingers.get(event.pointerId);
  if (before) {
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    const share = 1 / fingers.size; // of two fingers, the middle moves half as far
    moveBy(((before[0] - now[0]) * share) / across(), ((before[1] - now[1]) * share) / view.scale);
    if (other) {
      const apart = (from) => Math.max(Math.hypot(from[0] - other[0], from[1] - other[1]), 1);
      zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    fingers.set(event.pointerId, now);
  }
  pointer = now;
  describe();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
}
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  zoom(Math.exp(-0.002 * lines * event.deltaY), ...onCanvas(event));
  describe();
}, { passive: false });
canvas.addEventListener("dblclick", (event) => zoom(2, ...onCanvas(event)));

const STEP = 60; // pixels of the screen
const KEYS = {
  ArrowLeft: () => moveBy(-STEP / across(), 0),
  ArrowRight: () => moveBy(STEP / across(), 0),
  ArrowUp: () => moveBy(0, -STEP / view.scale),
  ArrowDown: () => moveBy(0, STEP / view.scale),
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  0: () => { fit(); refresh(); },
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
  pointer = null;
  element("live").textContent = describe();
});
canvas.addEventListener("focus", refresh);
canvas.addEventListener("blur", refresh);
element("closer").addEventListener("click", () => zoom(1.5));
element("farther").addEventListener("click", () => zoom(1 / 1.5));
element("whole").addEventListener("click", KEYS[0]);

for (const input of document.querySelectorAll("input")) {
  input.addEventListener("input", () => {
    if (input.name === "layer") {
      layer = data.layers.find((of) => of.band === input.value);
      showLegend();
    }
    refresh();
  });
}

function resize() {
  const dots = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * dots);
  canvas.height = Math.round(canvas.clientHeight * dots);
  if (!fitted) fit();
  fitted = true;
  draw();
}

// ---- beginning

async function load(holder) {
  const picture = new Image();
  picture.src = holder.picture;
  await picture.decode();
  holder.picture = picture;
}

async function begin() {
  await Promise.all([...data.layers, data.unlike, data.imagery].filter(Boolean).map(load));
  element("north").firstElementChild.setAttribute("transform", `rotate(${data.north})`);
  for (const swatch of document.querySelectorAll(".nothing")) swatch.style.background = data.noData;
  for (const swatch of document.querySelectorAll(".point")) {
    const kind = data.kinds[swatch.dataset.kind];
    swatch.style.background = kind.colour;
    swatch.classList.toggle("round", kind.round);
  }
  for (const swatch of document.querySelectorAll(".stripes")) {
    swatch.style.background =
      `repeating-linear-gradient(135deg, ${data.unlike.colours.join(" 0 2px, ")} 2px 6px)`;
  }
  showLegend();
  new ResizeObserver(resize).observe(canvas);
}

begin();
