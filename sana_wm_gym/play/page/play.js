"use strict";
// The page of `sana-wm play`: sends keys, sticks and touches, shows frames. No framework.

const token = new URLSearchParams(location.search).get("token") || "";
const $ = (id) => document.getElementById(id);
const ARROWS = { ArrowUp: "forward", ArrowDown: "back", ArrowLeft: "yaw_left", ArrowRight: "yaw_right" };
const state = {
  letters: {},        // letter -> control, of the server's key map
  pressed: new Map(), // physical key -> control
  sticks: {},         // of "pad" and "touch": a twist, null at rest
  sent: "",           // last steering that was sent
  path: [], estimated: [], chunk: 0, futures: null, snapshot: null, camera: true, frames: 0,
};
let socket = null;
let drawn = Promise.resolve(); // pictures are decoded in the background and drawn in their order

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
  socket.onmessage = (event) => {
    if (typeof event.data === "string") onJson(JSON.parse(event.data));
    else drawn = drawn.then(() => onBinary(event.data)).catch((error) => say(String(error)));
  };
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
    Object.assign(state, { letters: m.letters, camera: m.camera, fps: m.fps, path: [[0, 0]], estimated: [], chunk: 0, seed: m.seed });
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
    $("goal-view").hidden = !m.goal;
    $("policy").hidden = !m.policy;
    for (const id of ["frame", "twin", "goal"]) [$(id).width, $(id).height] = [m.size[1], m.size[0]];
    state.size = m.size;
    drawKeys();
    timeLine(0);
    hideFutures();
    $("frame").focus();
    state.sent = "";
    steer(); // what is held stays held in the new walk
  },
  chunk(m) {
    state.path.push(...m.poses);
    timeLine(m.chunk);
    drawPath();
    const how = m.policy ? "the policy steers" : m.fast ? "keys act within the chunk" : "this world is slow here: keys act from the next chunk";
    $("status").textContent = `${m.generation_s.toFixed(2)} s per chunk; ${how}` + (m.reward ? `; reward ${m.reward.toFixed(2)}` : "");
    if (m.over) say("the task is over: a new walk begins with R");
  },
  waiting(m) { if (m.waiting) $("status").textContent = "generating"; },
  rewound(m) { hideFutures(); Object.assign(state, { path: m.path, estimated: [] }); timeLine(m.chunk); drawPath(); $("frame").focus(); },
  resumed(m) { say(`resumed at chunk ${m.chunk}`); state.path = [[0, 0]]; timeLine(0); },
  futures(m) { showFutures(m.names); $("status").textContent = "paused: 1 to 4 takes a future, 0 none"; },
  adopted(m) { handlers.rewound(m); },
  saved(m) { say(`saved ${m.path}`); },
  policy(m) { say(m.on ? "the policy steers from the next chunk on; a key takes over" : "the keys steer"); },
  estimated(m) { state.estimated = m.path; drawPath(); say(`poses from the last frames: ${m.score}`); },
  aimed() { $("goal-view").hidden = false; },
  prompted(m) { say(`prompt from the next chunk: ${m.text}`); },
  error(m) { say(m.message); },
};

function onJson(message) { (handlers[message.type] || (() => {}))(message); }

async function onBinary(data) {
  const view = new DataView(data);
  const kind = view.getUint8(0);
  if (kind === 8) { state.snapshot = data.slice(1); return; }
  const bitmap = await createImageBitmap(new Blob([data.slice(13)], { type: "image/jpeg" }));
  const canvas = kind === 0 ? $("frame") : kind === 1 ? $("twin") : kind === 6 ? $("goal") : state.futures && state.futures[kind - 2];
  if (!canvas) return;
  if (canvas.frames) { canvas.frames.push(bitmap); return; }
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  if (kind === 0) {
    state.frames += 1;
    Object.assign(canvas.dataset, { chunk: view.getUint32(1, true), index: view.getUint32(5, true), frames: state.frames });
  }
}

// Keys, gamepad and touch become the same two messages.

function steer() {
  const held = new Set(state.pressed.values());
  const twist = state.sticks.touch || state.sticks.pad;
  // A world without a camera is steered by keys alone: a stick far from its centre presses some.
  if (twist && !state.camera) for (const control of pressedBy(twist)) held.add(control);
  const message = twist && state.camera ? ["axes", { twist }] : ["keys", { held: [...held].sort() }];
  if (JSON.stringify(message) === state.sent) return;
  state.sent = JSON.stringify(message);
  send(...message);
  for (const item of $("keys").children) item.classList.toggle("held", held.has(item.dataset.control));
}

function pressedBy([yaw, pitch, right, , forward]) {
  const pairs = [[yaw, "yaw_left", "yaw_right"], [pitch, "pitch_down", "pitch_up"], [right, "strafe_left", "strafe_right"], [forward, "back", "forward"]];
  return pairs.filter(([value]) => Math.abs(value) > 0.5).map(([value, low, high]) => (value < 0 ? low : high));
}

function onKey(event) {
  if (event.target.matches("#prompt, select, #time") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const control = state.letters[key] || ARROWS[event.key];
  if (control) {
    event.preventDefault(); // the page does not scroll
    state.pressed.set(event.code, control);
    return steer();
  }
  if (event.repeat) return;
  if (key === "r") send("reset");
  if (key === "b") send("branch");
  if (state.futures && "01234".includes(key)) send("adopt", { index: Number(key) - 1 });
}

function onKeyUp(event) { if (state.pressed.delete(event.code)) steer(); }

function release() {
  state.pressed.clear();
  state.sticks = {};
  steer();
}

function stick(source, twist) {
  const moved = twist && twist.some((value) => Math.abs(value) >= 0.12);
  state.sticks[source] = moved ? twist.map((value) => Math.round(Math.max(-1, Math.min(1, value)) * 20) / 20) : null;
  steer();
}

function gamepad() {
  const pad = [...navigator.getGamepads()].find((one) => one);
  // Left stick walks, right stick looks; twist is (yaw, pitch, right, down, forward).
  const [x = 0, y = 0, turn = 0, look = 0] = pad ? pad.axes : [];
  if (pad || state.sticks.pad) stick("pad", [turn, -look, x, 0, -y]);
  requestAnimationFrame(gamepad);
}

function touch(event) {
  const box = $("pad").getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * 2 - 1, y = (event.clientY - box.top) / box.height * 2 - 1;
  $("pad").firstElementChild.style.transform = `translate(${x * 45}px, ${y * 45}px)`;
  stick("touch", [x, 0, 0, 0, -y]);
}

function untouch() { $("pad").firstElementChild.style.transform = ""; stick("touch", null); }

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
  $("chunk").textContent = chunk;
  if (state.sliding) return;
  $("time").max = chunk;
  $("time").value = chunk;
}

function drawPath() {
  const canvas = $("path"), context = canvas.getContext("2d");
  const xs = state.path.map((p) => p[0]), zs = state.path.map((p) => p[1]);
  const reach = Math.max(1, ...xs.map(Math.abs), ...zs.map(Math.abs)) * 1.1, half = canvas.width / 2;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const [path, colour] of [[state.path, "#5aa0ff"], [state.estimated, "#ffd27a"]]) {
    context.strokeStyle = colour;
    context.beginPath();
    path.forEach(([x, z], i) => context[i ? "lineTo" : "moveTo"](half + x / reach * half, half - z / reach * half));
    context.stroke();
  }
  const [x, z] = state.path[state.path.length - 1];
  context.fillStyle = "#ff9c8a";
  context.fillRect(half + x / reach * half - 3, half - z / reach * half - 3, 6, 6);
  context.fillStyle = "#9aa";
  context.fillText(`${reach.toFixed(1)} m`, 4, 12);
}

function hideFutures() {
  $("futures").hidden = true;
  for (const canvas of state.futures || []) canvas.frames.forEach((bitmap) => bitmap.close());
  state.futures = null;
}

function showFutures(names) {
  hideFutures();
  const figures = names.map((name, index) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
    [canvas.width, canvas.height] = [state.size[1], state.size[0]];
    canvas.frames = [];
    canvas.onclick = () => send("adopt", { index });
    caption.textContent = `${index + 1}: ${name}`;
    figure.append(canvas, caption);
    return figure;
  });
  const none = Object.assign(document.createElement("button"), { textContent: "0: none of them" });
  none.onclick = () => send("adopt", { index: -1 });
  $("futures").replaceChildren(...figures, none);
  $("futures").hidden = false;
  const mine = state.futures = figures.map((figure) => figure.firstElementChild);
  let tick = 0;
  const timer = setInterval(() => {
    if (state.futures !== mine) return clearInterval(timer);
    for (const canvas of mine) {
      const bitmap = canvas.frames[tick % Math.max(1, canvas.frames.length)];
      if (bitmap) canvas.getContext("2d").drawImage(bitmap, 0, 0);
    }
    tick += 1;
  }, 1000 / state.fps);
}

addEventListener("keydown", onKey);
addEventListener("keyup", onKeyUp);
addEventListener("blur", release);
document.addEventListener("visibilitychange", () => document.hidden && release());
$("pad").addEventListener("pointerdown", (event) => { $("pad").setPointerCapture(event.pointerId); touch(event); });
$("pad").addEventListener("pointermove", (event) => $("pad").hasPointerCapture(event.pointerId) && touch(event));
for (const kind of ["pointerup", "pointercancel"]) $("pad").addEventListener(kind, untouch);
$("time").addEventListener("input", () => { state.sliding = true; });
$("time").addEventListener("change", () => { state.sliding = false; send("rewind", { chunk: Number($("time").value) }); });
$("world").addEventListener("change", () => { state.snapshot = null; send("world", { name: $("world").value }); });
$("prompt-form").addEventListener("submit", (event) => { event.preventDefault(); send("prompt", { text: $("prompt").value }); $("frame").focus(); });
$("branch").addEventListener("click", () => send("branch"));
$("policy").addEventListener("click", () => { send("policy", { on: true }); $("frame").focus(); });
$("estimate").addEventListener("click", () => { send("estimate"); $("frame").focus(); });
$("aim").addEventListener("click", () => send("goal"));
$("reset").addEventListener("click", () => send("reset"));
$("save").addEventListener("click", () => send("save", { what: $("what").value }));
$("replay").addEventListener("change", async (event) => { const [file] = event.target.files; if (file) send("replay", { walk: await file.text() }); });
requestAnimationFrame(gamepad);
connect();
