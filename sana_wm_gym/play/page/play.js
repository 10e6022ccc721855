"use strict";
// The page of `sana-wm play`: sends keys, sticks and touches, shows frames. No framework.

const token = new URLSearchParams(location.search).get("token") || "";
const $ = (id) => document.getElementById(id);
const state = { letters: {}, held: new Set(), path: [], chunk: 0, futures: null, snapshot: null, camera: true, stick: null, frames: 0 };
let socket = null;

function send(type, values = {}) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type, ...values }));
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/play?token=${encodeURIComponent(token)}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    say("");
    // A server that was started again goes on from the last state that this page has seen.
    if (state.snapshot) socket.send(state.snapshot);
  };
  socket.onmessage = (event) => (typeof event.data === "string" ? onJson(JSON.parse(event.data)) : onBinary(event.data));
  socket.onclose = (event) => {
    $("status").textContent = "disconnected";
    if (event.code === 1000) return say(event.reason || "disconnected");
    if (event.code === 1008 || event.code === 1006 && !state.frames) say(event.reason || "refused: open the URL that sana-wm play printed");
    setTimeout(connect, 1000);
  };
}

function say(text) { $("message").textContent = text; }

const handlers = {
  hello(m) {
    Object.assign(state, { letters: m.letters, camera: m.camera, path: [[0, 0]], chunk: 0, seed: m.seed });
    if (state.world && state.world !== m.world) state.snapshot = null;
    state.world = m.world;
    fill($("world"), m.worlds, m.world);
    fill($("phrases"), m.phrases);
    $("prompt").value = m.prompt;
    $("prompt").disabled = !m.prompts;
    $("prompt").placeholder = m.prompts ? "" : "this world takes no prompts";
    $("task").textContent = m.task === "free_roam" ? "" : `task ${m.task}`;
    $("caption").textContent = `world ${m.world}`;
    $("twin-view").hidden = !m.twin;
    for (const id of ["frame", "twin"]) [$(id).width, $(id).height] = [m.size[1], m.size[0]];
    state.size = m.size;
    drawKeys();
    timeLine(0);
    $("frame").focus();
  },
  chunk(m) {
    state.path.push(...m.poses);
    timeLine(m.chunk);
    drawPath();
    const how = m.fast ? "keys act within the chunk" : "this world is slow here: keys act from the next chunk";
    $("status").textContent = `${m.generation_s.toFixed(2)} s per chunk; ${how}` + (m.reward ? `; reward ${m.reward.toFixed(2)}` : "");
    if (m.over) say("the task is over: a new walk begins with R");
  },
  waiting(m) { if (m.waiting) $("status").textContent = "generating"; },
  rewound(m) { state.path = m.path; timeLine(m.chunk); drawPath(); },
  resumed(m) { say(`resumed at chunk ${m.chunk}`); state.path = [[0, 0]]; timeLine(0); },
  futures(m) { showFutures(m.names); },
  adopted(m) { $("futures").hidden = true; state.futures = null; state.path = m.path; drawPath(); $("frame").focus(); },
  saved(m) { say(`saved ${m.path}`); },
  prompted(m) { say(`prompt from the next chunk: ${m.text}`); },
  error(m) { say(m.message); },
};

function onJson(message) { (handlers[message.type] || (() => {}))(message); }

async function onBinary(data) {
  const view = new DataView(data);
  const kind = view.getUint8(0);
  if (kind === 8) { state.snapshot = data.slice(1); return; }
  const bitmap = await createImageBitmap(new Blob([data.slice(13)], { type: "image/jpeg" }));
  const canvas = kind === 0 ? $("frame") : kind === 1 ? $("twin") : state.futures && state.futures[kind - 2];
  if (!canvas) return;
  if (kind >= 2) { canvas.film.push(bitmap); return; }
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (kind === 0) {
    state.frames += 1;
    Object.assign(canvas.dataset, { chunk: view.getUint32(1, true), index: view.getUint32(5, true), frames: state.frames });
  }
}

// Keys, gamepad and touch become the same two messages.

function keysChanged() {
  send("keys", { held: [...state.held] });
  for (const item of $("keys").children) item.classList.toggle("held", state.held.has(item.dataset.control));
}

function onKey(event, down) {
  if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey) return;
  const control = state.letters[event.key.toLowerCase()] || { ArrowUp: "forward", ArrowDown: "back", ArrowLeft: "yaw_left", ArrowRight: "yaw_right" }[event.key];
  if (!control && down && event.key.toLowerCase() === "r") return send("reset");
  if (!control) return;
  event.preventDefault();
  if (down === state.held.has(control)) return;
  down ? state.held.add(control) : state.held.delete(control);
  keysChanged();
}

function release() { if (state.held.size) { state.held.clear(); keysChanged(); } if (state.stick) stick(null); }

function stick(twist) {
  const still = !twist || twist.every((value) => Math.abs(value) < 0.12);
  const next = still ? null : twist.map((value) => Math.round(Math.max(-1, Math.min(1, value)) * 20) / 20);
  if (JSON.stringify(next) === JSON.stringify(state.stick)) return;
  state.stick = next;
  next ? send("axes", { twist: next }) : keysChanged();
}

function gamepad() {
  const pad = [...navigator.getGamepads()].find((one) => one);
  if (pad) {
    // Left stick walks, right stick looks; twist is (yaw, pitch, right, down, forward).
    const [x, y, turn, look] = pad.axes;
    stick([turn || 0, -(look || 0), x || 0, 0, -(y || 0)]);
    state.pad = true;
  } else if (state.pad) { state.pad = false; stick(null); }
  requestAnimationFrame(gamepad);
}

function touch(event) {
  const box = $("pad").getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * 2 - 1, y = (event.clientY - box.top) / box.height * 2 - 1;
  $("pad").firstElementChild.style.transform = `translate(${x * 45}px, ${y * 45}px)`;
  stick([x, 0, 0, 0, -y]);
}

function untouch() { $("pad").firstElementChild.style.transform = ""; stick(null); }

// What stands around the picture.

function fill(list, values, chosen) {
  list.replaceChildren(...values.map((value) => Object.assign(document.createElement("option"), { value, textContent: value, selected: value === chosen })));
}

function drawKeys() {
  const letters = Object.entries(state.letters).filter(([, control]) => state.camera || control);
  $("keys").replaceChildren(...letters.map(([letter, control]) => {
    const item = document.createElement("span");
    const key = document.createElement("kbd");
    key.textContent = letter;
    item.append(key, ` ${control.replace("_", " ")}`);
    item.dataset.control = control;
    return item;
  }));
}

function timeLine(chunk) {
  state.chunk = chunk;
  $("time").max = chunk;
  $("time").value = chunk;
  $("chunk").textContent = chunk;
}

function drawPath() {
  const canvas = $("path"), context = canvas.getContext("2d");
  const xs = state.path.map((p) => p[0]), zs = state.path.map((p) => p[1]);
  const reach = Math.max(1, ...xs.map(Math.abs), ...zs.map(Math.abs)) * 1.1, half = canvas.width / 2;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = "#5aa0ff";
  context.beginPath();
  state.path.forEach(([x, z], i) => context[i ? "lineTo" : "moveTo"](half + x / reach * half, half - z / reach * half));
  context.stroke();
  const [x, z] = state.path[state.path.length - 1];
  context.fillStyle = "#ff9c8a";
  context.fillRect(half + x / reach * half - 3, half - z / reach * half - 3, 6, 6);
  context.fillStyle = "#9aa";
  context.fillText(`${reach.toFixed(1)} m`, 4, 12);
}

function showFutures(names) {
  const figures = names.map((name, index) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
    [canvas.width, canvas.height] = [state.size[1], state.size[0]];
    canvas.film = [];
    canvas.onclick = () => send("adopt", { index });
    caption.textContent = name;
    figure.append(canvas, caption);
    return figure;
  });
  const none = Object.assign(document.createElement("button"), { textContent: "None of them" });
  none.onclick = () => send("adopt", { index: -1 });
  $("futures").replaceChildren(...figures, none);
  $("futures").hidden = false;
  state.futures = figures.map((figure) => figure.firstElementChild);
  let tick = 0;
  const timer = setInterval(() => {
    if (!state.futures) return clearInterval(timer);
    for (const canvas of state.futures) {
      const bitmap = canvas.film[tick % Math.max(1, canvas.film.length)];
      if (bitmap) canvas.getContext("2d").drawImage(bitmap, 0, 0);
    }
    tick += 1;
  }, 1000 / 16);
}

addEventListener("keydown", (event) => onKey(event, true));
addEventListener("keyup", (event) => onKey(event, false));
addEventListener("blur", release);
document.addEventListener("visibilitychange", () => document.hidden && release());
$("pad").addEventListener("pointerdown", (event) => { $("pad").setPointerCapture(event.pointerId); touch(event); });
$("pad").addEventListener("pointermove", (event) => $("pad").hasPointerCapture(event.pointerId) && touch(event));
for (const kind of ["pointerup", "pointercancel"]) $("pad").addEventListener(kind, untouch);
$("time").addEventListener("change", () => send("rewind", { chunk: Number($("time").value) }));
$("world").addEventListener("change", () => { state.snapshot = null; send("world", { name: $("world").value }); });
$("prompt-form").addEventListener("submit", (event) => { event.preventDefault(); send("prompt", { text: $("prompt").value }); $("frame").focus(); });
$("branch").addEventListener("click", () => send("branch"));
$("reset").addEventListener("click", () => send("reset"));
$("save").addEventListener("click", () => send("save", { what: $("what").value }));
$("replay").addEventListener("change", async (event) => { const [file] = event.target.files; if (file) send("replay", { walk: await file.text() }); });
requestAnimationFrame(gamepad);
connect();
