// Point clouds and meshes: binary PLY in camera axes, GLB in glTF's, both in metres. Each function returns a Blob.

import { EDGE } from "./geometry.js";

const MAX_VERTICES = 1_000_000; // approximate limit: larger meshes have every n-th pixel
const MAX_TEXTURE_SIDE = 8192; // supported by all graphics hardware

/** A point cloud of all known points with their colours. */
export function ply(points, rgb, text) {
  const size = 15;
  const vertices = new DataView(new ArrayBuffer((size * points.length) / 3));
  let count = 0;
  for (let i = 0; i < points.length; i += 3) {
    if (!Number.isFinite(points[i + 2])) continue;
    for (let c = 0; c < 3; c++) {
      vertices.setFloat32(size * count + 4 * c, points[i + c], true);
      vertices.setUint8(size * count + 12 + c, rgb[i + c]);
    }
    count++;
  }
  if (!count) throw new Error("No point is known: there is nothing to write.");
  const comments = { axes: "x right, y down, z forward", unit: "metre", ...text };
  const header = [
    "ply",
    "format binary_little_endian 1.0",
    ...Object.entries(comments).map(([key, value]) => `comment ${key}: ${value}`.replace(/[^ -~]/g, "?")),
    `element vertex ${count}`,
    ...["x", "y", "z"].map((axis) => `property float ${axis}`),
    ...["red", "green", "blue"].map((color) => `property uchar ${color}`),
    "end_header\n",
  ];
  return new Blob([header.join("\n"), new Uint8Array(vertices.buffer, 0, size * count)]);
}

/** Every step-th number below side, and the last, so that a thinned mesh reaches the border of the image. */
function everyNth(side, step) {
  const numbers = [];
  for (let i = 0; i < side; i += step) numbers.push(i);
  if (numbers.at(-1) !== side - 1) numbers.push(side - 1);
  return numbers;
}

/** A mesh of the visible surface, cut at edges, with the image (a canvas) as its unlit texture. */
export async function glb(points, width, height, picture, text) {
  const step = Math.max(1, Math.ceil(Math.sqrt((width * height) / MAX_VERTICES)));
  const [rows, columns] = [everyNth(height, step), everyNth(width, step)];
  const edge = (1 + EDGE) ** step - 1;
  const place = (r, c) => rows[r] * width + columns[c];
  const vertexOf = new Int32Array(rows.length * columns.length).fill(-1);
  const used = []; // cells of the grid, in the order of their vertices
  const indices = [];
  const add = (...corners) => {
    const depths = corners.map(([r, c]) => points[3 * place(r, c) + 2]);
    if (!(Math.max(...depths) <= (1 + edge) * Math.min(...depths))) return; // an edge, or a point that is unknown
    for (const [r, c] of corners) {
      const cell = r * columns.length + c;
      if (vertexOf[cell] < 0) vertexOf[cell] = used.push([r, c]) - 1;
      indices.push(vertexOf[cell]);
    }
  };
  for (let r = 0; r + 1 < rows.length; r++) {
    for (let c = 0; c + 1 < columns.length; c++) {
      add([r, c], [r + 1, c], [r, c + 1]);
      add([r, c + 1], [r + 1, c], [r + 1, c + 1]);
    }
  }
  if (!indices.length) throw new Error("No surface is left: the map is unknown, one pixel wide, or an edge everywhere.");

  const positions = new Float32Array(3 * used.length);
  const places = new Float32Array(2 * used.length);
  used.forEach(([r, c], v) => {
    for (let axis = 0; axis < 3; axis++) positions[3 * v + axis] = points[3 * place(r, c) + axis] * (axis ? -1 : 1);
    places.set([(columns[c] + 0.5) / width, (rows[r] + 0.5) / height], 2 * v);
  });
  const texture = new Uint8Array(await (await jpeg(picture)).arrayBuffer());
  const extras = { unit: "metre", axes: "x right, y up, z towards the viewer", ...text };
  if (step > 1) extras.mesh_step = `every ${step}th pixel is a vertex`;
  return container(positions, places, Uint32Array.from(indices), texture, extras);
}

function jpeg(picture) {
  const scale = Math.min(1, MAX_TEXTURE_SIDE / Math.max(picture.width, picture.height));
  const canvas = new OffscreenCanvas(Math.round(picture.width * scale), Math.round(picture.height * scale));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}

/** A binary glTF 2.0 file of one textured mesh. */
function container(positions, places, indices, texture, extras) {
  const parts = [positions, places, indices, texture];
  const [ARRAY, ELEMENTS] = [34962, 34963];
  const views = [];
  let length = 0;
  parts.forEach((part, i) => {
    views.push({ buffer: 0, byteOffset: length, byteLength: part.byteLength });
    if (i < 3) views[i].target = i < 2 ? ARRAY : ELEMENTS;
    length += Math.ceil(part.byteLength / 4) * 4;
  });
  const [FLOAT, UINT32] = [5126, 5125];
  const bounds = [0, 1, 2].map((axis) => {
    let [low, high] = [Infinity, -Infinity];
    for (let i = axis; i < positions.length; i += 3) {
      low = Math.min(low, positions[i]);
      high = Math.max(high, positions[i]);
    }
    return [low, high];
  });
  const count = positions.length / 3;
  const tree = {
    asset: {
      version: "2.0",
      generator: `depth-anything ${extras.version}`,
      copyright: `weights: ${extras.model}, licence ${extras.licence}`,
      extras,
    },
    extensionsUsed: ["KHR_materials_unlit"],
    scene: 0,
    scenes: [{ nodes: [0] }],
    nodes: [{ mesh: 0 }],
    meshes: [{ primitives: [{ attributes: { POSITION: 0, TEXCOORD_0: 1 }, indices: 2, material: 0 }] }],
    materials: [
      {
        pbrMetallicRoughness: { baseColorTexture: { index: 0 }, metallicFactor: 0, roughnessFactor: 1 },
        doubleSided: true,
        extensions: { KHR_materials_unlit: {} },
      },
    ],
    textures: [{ source: 0 }],
    images: [{ bufferView: 3, mimeType: "image/jpeg" }],
    accessors: [
      { bufferView: 0, componentType: FLOAT, count, type: "VEC3", min: bounds.map((b) => b[0]), max: bounds.map((b) => b[1]) },
      { bufferView: 1, componentType: FLOAT, count, type: "VEC2" },
      { bufferView: 2, componentType: UINT32, count: indices.length, type: "SCALAR" },
    ],
    bufferViews: views,
    buffers: [{ byteLength: length }],
  };
  const json = new TextEncoder().encode(JSON.stringify(tree));
  const padded = Math.ceil(json.length / 4) * 4;
  const file = new Uint8Array(12 + 8 + padded + 8 + length);
  const view = new DataView(file.buffer);
  ["glTF", 2, file.length, padded, "JSON"].forEach((word, i) => {
    if (typeof word === "number") view.setUint32(4 * i, word, true);
    else file.set(new TextEncoder().encode(word), 4 * i);
  });
  file.fill(32, 20, 20 + padded); // JSON is padded by spaces
  file.set(json, 20);
  view.setUint32(20 + padded, length, true);
  file.set(new TextEncoder().encode("BIN\0"), 24 + padded);
  parts.forEach((part, i) => {
    file.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), 28 + padded + views[i].byteOffset);
  });
  return new Blob([file], { type: "model/gltf-binary" });
}
