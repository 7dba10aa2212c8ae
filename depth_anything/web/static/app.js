// The page: a picture in; the map beside it, its values in words, a shape to turn, files to keep.

import { takePicture } from "./camera.js";
import { downloadButtons, swatches } from "./controls.js";
import { DepthMap } from "./depthmap.js";
import { decodePng16 } from "./png16.js";
import { request } from "./server.js";

const $ = (id) => document.getElementById(id);
const ASSUMED_FOV = 55;

let server = null; // what /v1/models answers
let tables = {}; // of colour maps
let picture = null; // the Blob that was given
let map = null; // its DepthMap
let asked = 0; // counts pictures: an answer to an older one is dropped
let mesh = null; // what the 3-D view shows: { key, url }

// -- the server ------------------------------------------------------------------------------------------------------

/** The answer in one form, for the picture, model, colours and numbers that are chosen now. */
async function ask(format) {
  const query = new URLSearchParams({ format, model: $("model").value, colors: chosenColors() });
  const needs = server.needs[format];
  if (needs.includes("metres") && !isMetric()) {
    query.set("near", $("near").value);
    query.set("far", $("far").value);
  }
  if ($("fov").value && (needs.includes("camera") || server.says_camera.includes(format)))
    query.set("fov", $("fov").value);
  const post = () =>
    request(`/v1/depth?${query}`, {
      method: "POST",
      body: picture,
      headers: { "Content-Type": "application/octet-stream" },
    });
  try {
    return await post();
  } catch (error) {
    if (error.status !== 422 || !error.message.includes("camera")) throw error;
    $("fov").value = ASSUMED_FOV; // the photograph does not say
    $("solid-words").textContent = `The photograph does not tell its view angle; ${ASSUMED_FOV}° is assumed.`;
    query.set("fov", ASSUMED_FOV);
    return await post();
  }
}

const isMetric = () => server.models.find((row) => row.name === $("model").value).quantity === "depth_m";
const chosenColors = () => document.querySelector("input[name=colors]:checked")?.value ?? server.colormaps[0];

// -- states ----------------------------------------------------------------------------------------------------------

function show(state, words = "") {
  document.body.dataset.state = state;
  document.body.setAttribute("aria-busy", String(state === "working"));
  $("status").textContent = words;
}

function showProblem(error) {
  $("problem").textContent = error.message;
  $("problem").hidden = false;
  $("solid").classList.remove("waiting");
  show(map ? "done" : "empty");
}

// -- a picture -------------------------------------------------------------------------------------------------------

async function take(blob) {
  if (!blob || !server) return;
  $("problem").hidden = true;
  if (blob.size > server.max_bytes) {
    return showProblem(
      new Error(
        `That file has ${(blob.size / 2 ** 20).toFixed(0)} MiB; this server takes ${server.max_bytes / 2 ** 20}.`,
      ),
    );
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
  show("working", "Working on the picture");
  try {
    const answer = await decodePng16(await (await ask("png16")).arrayBuffer());
    if (mine !== asked) return;
    map = new DepthMap(answer);
    fit(map.width, map.height);
    paint();
    probe(Math.floor(map.width * 0.74), Math.floor(map.height * 0.68));
    $("meaning").textContent = `${answer.text.meaning}. Model ${answer.text.model}, licence ${answer.text.licence}.`;
    show("done", "The map is ready");
    if (!$("panel-solid").hidden) await showSolid();
  } catch (error) {
    if (mine === asked) showProblem(error);
  }
}

/** Makes room in the picture's proportions. */
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
  place.textContent = reading ? reading.place : "the model gives no value";
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
  show("done", "Building the shape");
  try {
    const [answer, { viewer }] = await Promise.all([ask("glb"), import("./viewer.js")]);
    const url = URL.createObjectURL(await answer.blob());
    if (mine !== asked) return URL.revokeObjectURL(url);
    mesh = { key: shape(), url };
    const element = viewer(url, Number($("fov").value) || ASSUMED_FOV, map.width / map.height);
    element.addEventListener("load", () => {
      $("solid").classList.remove("waiting");
      if (!$("solid-words").textContent) $("solid-words").textContent = "Drag to turn, pinch or scroll to come nearer.";
      show("done", "The shape is ready");
    });
    element.addEventListener("error", () => {
      showProblem(
        new Error("This browser cannot draw in 3-D (is WebGL off?). The mesh can be downloaded all the same."),
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
    const answer = await ask(format);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = answer.headers.get("Content-Disposition").match(/filename="(.+)"/)[1];
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    $("status").textContent = `${link.download} is downloaded`;
  } catch (error) {
    showProblem(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function shoot() {
  if (!navigator.mediaDevices?.getUserMedia) return $("shoot").click(); // no live view without https; phones can still
  try {
    await take(await takePicture());
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
    button.onclick = async () => take(await (await fetch(`/static/examples/${button.dataset.example}`)).blob());
  }
  addEventListener("paste", (event) =>
    take([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))),
  );
  let inside = 0; // dragenter and dragleave come for every element
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
  $("model").onchange = () => {
    describeModel();
    if (picture) compute();
  };
}

function describeModel() {
  for (const element of document.querySelectorAll("[data-relative]")) element.hidden = isMetric();
  for (const id of ["near", "far"]) $(id).disabled = isMetric();
}

function fill() {
  $("model").replaceChildren(...server.models.map((row) => new Option(row.name, row.name)));
  describeModel();
  $("privacy").textContent = server.keeps_pictures
    ? "This server keeps the pictures that it is given."
    : "A picture goes to this server only, and is forgotten with its answer.";
  $("colors").replaceChildren(...swatches(tables, () => map && paint()));
  $("downloads").replaceChildren(...downloadButtons(server.formats, download));
}

wire();
try {
  [server, tables] = await Promise.all(
    ["/v1/models", "/v1/colormaps"].map(async (path) => (await request(path)).json()),
  );
  fill();
  document.body.dataset.ready = "yes";
} catch (error) {
  showProblem(error);
}
