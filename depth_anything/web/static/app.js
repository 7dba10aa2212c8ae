// The page: choose an image; see its depth map, values, and 3-D view; download files.

import { takePicture } from "./camera.js";
import { downloadButtons, swatches } from "./controls.js";
import { DepthMap, LiveRange } from "./depthmap.js";
import { decodePng16 } from "./png16.js";

const $ = (id) => document.getElementById(id);
const ASSUMED_FOV = 55;
const DEVICES = { wasm: "Processor", webgpu: "GPU (WebGPU)" };

let backend = null; // creates files of images: the server, or a worker in this browser (server.js, browser/backend.js)
let tables = {}; // of colour maps
let picture = null; // the Blob of the image
let map = null; // its DepthMap
let asked = 0; // number of requests for a map: results of older ones are ignored
let mesh = null; // the mesh in the 3-D view: { key, url }

// -- the backend -----------------------------------------------------------------------------------------------------

/** Requests a file, { blob, name }, for an image and the current model, colours and numbers. */
async function ask(format, image = picture, how = backend.ask) {
  const needs = backend.needs[format];
  const relative = needs.includes("metres") && !isMetric();
  const seesCamera = needs.includes("camera") || backend.says_camera.includes(format);
  const options = {
    format,
    picture: image,
    model: $("model").value,
    device: $("device").value,
    colors: chosenColors(),
    near: relative ? $("near").value : "",
    far: relative ? $("far").value : "",
    fov: seesCamera ? $("fov").value : "",
  };
  try {
    return await how(options);
  } catch (error) {
    if (!error.needsCamera) throw error;
    $("fov").value = ASSUMED_FOV; // the photograph does not state it
    $("solid-words").textContent = `The image does not state its view angle; ${ASSUMED_FOV}° is assumed.`;
    return await how({ ...options, fov: String(ASSUMED_FOV) });
  }
}

const isMetric = () => backend.models.find((row) => row.name === $("model").value).quantity === "depth_m";
const chosenColors = () => document.querySelector("input[name=colors]:checked")?.value ?? backend.colormaps[0];

// -- states ----------------------------------------------------------------------------------------------------------

function show(state, words = "") {
  document.body.dataset.state = state;
  document.body.setAttribute("aria-busy", String(state === "working"));
  $("status").textContent = words;
  $("progress").textContent = "";
}

function showProblem(error) {
  $("problem").textContent = error.message;
  $("problem").hidden = false;
  $("solid").classList.remove("waiting");
  show(map ? "done" : "empty");
}

// -- the image -------------------------------------------------------------------------------------------------------

async function take(blob) {
  if (!blob || !backend) return;
  $("problem").hidden = true;
  if (blob.size > backend.max_bytes) {
    const [size, most] = [blob.size, backend.max_bytes].map((bytes) => (bytes / 2 ** 20).toFixed(0));
    return showProblem(new Error(`The file has ${size} MiB; the limit is ${most} MiB.`));
  }
  picture = blob;
  map = null;
  $("fov").value = "";
  URL.revokeObjectURL($("picture").src);
  $("picture").src = URL.createObjectURL(blob);
  $("view").classList.toggle(
    "blind",
    !(await $("picture")
      .decode()
      .then(
        () => true,
        () => false,
      )),
  );
  fit($("picture").naturalWidth || 3, $("picture").naturalHeight || 2);
  $("split").value = 50;
  split();
  await compute();
}

async function compute() {
  const mine = ++asked;
  dropMesh();
  $("problem").hidden = true;
  show("working", "Predicting depth");
  try {
    const { blob, seconds } = await ask("png16");
    const png = await decodePng16(await blob.arrayBuffer());
    if (mine !== asked) return;
    map = new DepthMap(png);
    fit(map.width, map.height);
    paint();
    probe(Math.floor(map.width * 0.74), Math.floor(map.height * 0.68));
    const { meaning, model, licence } = png.text;
    const time = seconds ? ` Predicted in ${seconds.toFixed(2)} s.` : "";
    $("meaning").textContent = `${meaning}. Model ${model}, licence ${licence}.${time}`;
    show("done", "The map is ready");
    if (!$("panel-solid").hidden) await showSolid();
  } catch (error) {
    if (mine === asked) showProblem(error);
  }
}

/** Sets the aspect ratio of the views. */
function fit(width, height) {
  $("view").style.setProperty("--ratio", width / height);
  $("solid").style.setProperty("--ratio", width / height);
}

function paint() {
  const table = tables[chosenColors()];
  map.draw($("map"), table);
  const stops = Array.from({ length: 17 }, (_, i) => `rgb(${table[Math.min(255, i * 16)].join(" ")})`);
  document.documentElement.style.setProperty("--ramp", `linear-gradient(90deg, ${stops.join(", ")})`);
  const [far, near] = map.ends();
  $("end-far").textContent = `far ${far}`;
  $("end-near").textContent = `${near} near`;
}

// -- divider and probe -----------------------------------------------------------------------------------------------

const split = () => $("view").style.setProperty("--split", `${$("split").value}%`);

let at = { x: 0, y: 0 };

function probe(x, y) {
  if (!map) return;
  at = { x: Math.max(0, Math.min(map.width - 1, x)), y: Math.max(0, Math.min(map.height - 1, y)) };
  const reading = map.reading(at.x, at.y);
  const [value, place] = $("reading").children;
  value.textContent = reading ? reading.value : "unknown here";
  place.textContent = reading ? reading.place : "the model predicts no value";
  $("needle").style.left = `${100 * (reading?.nearness ?? 0)}%`;
  $("probe").style.left = `${(100 * (at.x + 0.5)) / map.width}%`;
  $("probe").style.top = `${(100 * (at.y + 0.5)) / map.height}%`;
}

function probeAt(event) {
  if (!map) return;
  const box = $("view").getBoundingClientRect();
  probe(
    Math.floor(((event.clientX - box.left) / box.width) * map.width),
    Math.floor(((event.clientY - box.top) / box.height) * map.height),
  );
}

function probeByKey(event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way || !map) return;
  event.preventDefault();
  const stride = Math.max(1, Math.round(Math.max(map.width, map.height) / (event.shiftKey ? 10 : 100)));
  probe(at.x + way[0] * stride, at.y + way[1] * stride);
}

// -- 3-D -------------------------------------------------------------------------------------------------------------

function selectTab(name) {
  for (const tab of ["compare", "solid"]) {
    const on = tab === name;
    $(`tab-${tab}`).setAttribute("aria-selected", String(on));
    $(`tab-${tab}`).tabIndex = on ? 0 : -1;
    $(`panel-${tab}`).hidden = !on;
  }
  if (name === "solid") showSolid();
}

function dropMesh() {
  if (mesh) URL.revokeObjectURL(mesh.url);
  mesh = null;
  $("solid").replaceChildren();
  $("solid").classList.toggle("waiting", !$("panel-solid").hidden);
  $("solid-words").textContent = "";
}

const shape = () => [$("near").value, $("far").value, $("fov").value].join();

async function showSolid() {
  if (!map) return;
  const mine = asked;
  if (mesh?.key === shape()) return;
  dropMesh();
  show("done", "Building the 3-D view");
  try {
    const [{ blob }, { viewer }] = await Promise.all([ask("glb"), import("./viewer.js")]);
    const url = URL.createObjectURL(blob);
    if (mine !== asked) return URL.revokeObjectURL(url);
    mesh = { key: shape(), url };
    const element = viewer(url, Number($("fov").value) || ASSUMED_FOV, map.width / map.height);
    element.addEventListener("load", () => {
      $("solid").classList.remove("waiting");
      if (!$("solid-words").textContent) $("solid-words").textContent = "Drag to rotate, pinch or scroll to zoom.";
      show("done", "The 3-D view is ready");
    });
    element.addEventListener("error", () => {
      showProblem(
        new Error("This browser cannot show 3-D (is WebGL disabled?). The mesh can still be downloaded."),
      );
    });
    $("solid").replaceChildren(element);
  } catch (error) {
    showProblem(error);
  }
}

// -- downloads -------------------------------------------------------------------------------------------------------

async function download(format, button) {
  button.setAttribute("aria-busy", "true");
  $("problem").hidden = true;
  try {
    const { blob, name } = await ask(format);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    $("status").textContent = `${link.download} is downloaded`;
  } catch (error) {
    showProblem(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function drawLive(frame, canvas, range) {
  const { blob } = await ask("png16", frame, backend.askLive);
  const next = new DepthMap(await decodePng16(await blob.arrayBuffer()));
  next.draw(canvas, tables[chosenColors()], range.follow(next));
}

async function shoot() {
  if (!navigator.mediaDevices?.getUserMedia) return $("shoot").click(); // there is no live view without https, but phones can take a photo
  try {
    const range = new LiveRange();
    const photo = takePicture((frame, canvas) => drawLive(frame, canvas, range));
    await take(await photo.finally(() => backend.endLive?.()));
  } catch (error) {
    showProblem(error);
  }
}

// -- wiring ----------------------------------------------------------------------------------------------------------

function wire() {
  $("choose").onclick = () => $("file").click();
  $("take").onclick = shoot;
  for (const input of [$("file"), $("shoot")]) {
    input.onchange = () => {
      take(input.files[0]);
      input.value = "";
    };
  }
  for (const button of document.querySelectorAll("[data-example]")) {
    button.onclick = async () => {
      const address = new URL(`examples/${button.dataset.example}`, import.meta.url);
      await take(await (await fetch(address)).blob());
    };
  }
  addEventListener("paste", (event) =>
    take([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))),
  );
  let inside = 0; // every element causes its own dragenter and dragleave
  const over = (change) => {
    inside += change;
    document.body.classList.toggle("dragging", inside > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-inside);
    take(event.dataTransfer.files[0]);
  });

  $("split").oninput = split;
  $("view").addEventListener("pointermove", probeAt);
  $("view").addEventListener("pointerdown", probeAt);
  $("probe").addEventListener("keydown", probeByKey);
  for (const name of ["compare", "solid"]) $(`tab-${name}`).onclick = () => selectTab(name);
  document.querySelector("[role=tablist]").onkeydown = (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const other = $("panel-solid").hidden ? "solid" : "compare";
    selectTab(other);
    $(`tab-${other}`).focus();
  };
  $("geometry").onsubmit = (event) => {
    event.preventDefault();
    selectTab("solid");
  };
  $("model").onchange = $("device").onchange = () => {
    describeModel();
    if (picture) compute();
  };
}

function describeModel() {
  for (const element of document.querySelectorAll("[data-relative]")) element.hidden = isMetric();
  for (const id of ["near", "far"]) $(id).disabled = isMetric();
}

function fill() {
  $("model").replaceChildren(...backend.models.map((row) => new Option(row.name, row.name)));
  const devices = backend.devices ?? [];
  $("device").replaceChildren(...devices.map((name) => new Option(DEVICES[name], name)));
  $("device").parentElement.hidden = devices.length < 2;
  describeModel();
  $("privacy").textContent = backend.privacy;
  $("colors").replaceChildren(...swatches(tables, () => map && paint()));
  $("downloads").replaceChildren(...downloadButtons(backend.formats, download));
}

/** Shows the progress of the backend. */
function tell(text) {
  $("progress").textContent = text;
}

wire();
try {
  const { connect } = await import(document.querySelector("meta[name=backend]").content);
  backend = await connect(tell);
  tables = backend.tables;
  fill();
  document.body.dataset.ready = "yes";
} catch (error) {
  showProblem(error);
}
