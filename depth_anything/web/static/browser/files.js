// The files of a map, as `predict --save` writes them, created in the browser.

import { ends, exr, json, npy, npz, pfm } from "./arrays.js";
import { camera, nearFar, normalColors, unproject } from "./geometry.js";
import { pngOf16Bits, pngOfColors } from "./png.js";
import { glb, ply } from "./solids.js";

const PNG16_MAX = 65535;

/** A map of metres from a disparity, with the metadata about their source. */
export function toMetres(map, near, far) {
  if (map.quantity === "depth_m") return map;
  const from = `from the given near ${near} m and far ${far} m, not measured`;
  const meaning = `depth_m: metres along the optical axis, ${from}; 0 where unknown`;
  const text = { ...map.text, quantity: "depth_m", meaning, metres_from: from };
  return { ...map, quantity: "depth_m", values: nearFar(map.values, near, far), text };
}

/** 1 nearest, 0 farthest or unknown, linear in `values`, of which `known` are known; all 0 for a constant map. */
function nearness(values, known, largerIsNearer) {
  const [low, high] = ends(known);
  if (!(high > low)) return new Float32Array(values.length);
  return values.map((value) => {
    const along = Math.min(1, Math.max(0, (value - low) / (high - low)));
    return largerIsNearer ? along : 1 - along;
  });
}

/** RGB of the map in the 256 colours of a table; unknown is black. */
function colored({ values, quantity }, table) {
  const metric = quantity === "depth_m";
  const near = nearness(values, metric ? values.filter((value) => value > 0) : values, !metric);
  const rgb = new Uint8Array(3 * values.length);
  for (let i = 0; i < values.length; i++) if (!metric || values[i] > 0) rgb.set(table[Math.round(255 * near[i])], 3 * i);
  return rgb;
}

/** Grey, near is white, linear in disparity (of metres: in 1/metres). */
function control(map, grey) {
  if (map.quantity === "disparity") return colored(map, grey);
  const values = map.values.map((metres) => (metres > 0 ? 1 / metres : 0));
  const near = nearness(values, values.filter((value) => value > 0), true);
  const rgb = new Uint8Array(3 * values.length);
  for (let i = 0; i < values.length; i++) if (values[i] > 0) rgb.set(grey[Math.round(255 * near[i])], 3 * i);
  return rgb;
}

function png16({ width, height, values, quantity, text }) {
  if (quantity === "depth_m") {
    const millimetres = values.map((metres) => Math.round(metres * 1000));
    const stored = Uint16Array.from(values, (metres, i) =>
      metres > 0 ? Math.min(PNG16_MAX, Math.max(1, millimetres[i])) : 0,
    );
    const saturated = String(millimetres.filter((value) => value > PNG16_MAX).length);
    return pngOf16Bits(width, height, stored, { ...text, unit: "millimetre, 0 = unknown", saturated_pixels: saturated });
  }
  const [low, high] = ends(values);
  const scale = high > low ? PNG16_MAX / (high - low) : 0;
  const stored = Uint16Array.from(values, (value) => Math.round((value - low) * scale));
  return pngOf16Bits(width, height, stored, { ...text, disparity_min: String(low), disparity_max: String(high) });
}

function side(map, picture, table) {
  const { width, height } = map;
  const right = colored(map, table);
  const both = new Uint8Array(6 * width * height);
  for (let y = 0; y < height; y++) {
    both.set(picture.rgb.subarray(3 * y * width, 3 * (y + 1) * width), 6 * y * width);
    both.set(right.subarray(3 * y * width, 3 * (y + 1) * width), 6 * y * width + 3 * width);
  }
  return pngOfColors(2 * width, height, both, map.text);
}

const points = (map) => unproject(map, map.K);
const WRITERS = {
  color: (map, _, tables, colors) => pngOfColors(map.width, map.height, colored(map, tables[colors]), map.text),
  side: (map, picture, tables, colors) => side(map, picture, tables[colors]),
  control: (map, _, tables) => pngOfColors(map.width, map.height, control(map, tables.gray), map.text),
  png16,
  npz,
  npy,
  pfm,
  exr,
  json,
  normals: (map) => pngOfColors(map.width, map.height, normalColors(points(map), map.width, map.height), map.text),
  ply: (map, picture) => ply(points(map), picture.rgb, map.text),
  glb: (map, picture) => glb(points(map), map.width, map.height, picture.canvas, map.text),
};

/**
 * One file of a map: { blob, name }.
 *
 * @param format { name, kind, ending, needs } as page.json lists it
 * @param map { width, height, values, quantity, text }
 * @param picture { rgb, canvas, focalMm } of the same size
 * @param options { colors, near, far, fov } as the user chose them
 */
export async function fileOf(format, map, picture, tables, { colors, near, far, fov }) {
  const geometric = format.needs.includes("metres");
  const made = geometric ? toMetres(map, near, far) : map;
  const view = fov ? { fov } : picture.focalMm && { focalMm: picture.focalMm };
  if (geometric && !view) {
    throw Object.assign(new Error("This image does not state its view angle: enter one."), { needsCamera: true });
  }
  const K = view ? camera(map.width, map.height, view) : null;
  const blob = await WRITERS[format.name]({ ...made, K }, picture, tables, colors);
  const kind = format.kind.replace("{quantity}", made.quantity);
  return { blob, name: `picture_${kind}.${format.ending}` };
}
