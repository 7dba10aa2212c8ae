// Maps as float32 without loss: NPY, NPZ, PFM, JSON, OpenEXR. Each function returns a Blob.

import { crc32, deflated } from "./png.js";

const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const ascii = (text) => new TextEncoder().encode(text);

// -- NumPy -----------------------------------------------------------------------------------------------------------

/** The bytes of an .npy of version 1.0. */
function npyBytes(type, shape, data) {
  const sides = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const dictionary = `{'descr': '${type}', 'fortran_order': False, 'shape': (${sides}), }`;
  const length = Math.ceil((10 + dictionary.length + 1) / 64) * 64;
  const bytes = new Uint8Array(length + data.byteLength);
  bytes.set([0x93, ...ascii("NUMPY"), 1, 0, (length - 10) & 255, (length - 10) >> 8]);
  bytes.set(ascii(`${dictionary.padEnd(length - 11)}\n`), 10);
  bytes.set(bytesOf(data), length);
  return bytes;
}

/** A text as NumPy's array of one string: UTF-32. */
function npyText(text) {
  const letters = Uint32Array.from(text, (letter) => letter.codePointAt(0));
  return npyBytes(`<U${letters.length}`, [], letters);
}

export const npy = ({ width, height, values }) => new Blob([npyBytes("<f4", [height, width], values)]);

/** The map under its quantity, K where the camera is known, and the text as arrays of one string. */
export async function npz({ width, height, values, quantity, K, text }) {
  const arrays = { [quantity]: npyBytes("<f4", [height, width], values) };
  if (K) arrays.K = npyBytes("<f8", [3, 3], Float64Array.from(matrix(K).flat()));
  for (const [key, value] of Object.entries(text)) arrays[key] = npyText(value);
  const files = Object.entries(arrays).map(([name, bytes]) => [`${name}.npy`, bytes]);
  return new Blob(await zip(files));
}

/** The parts of a ZIP archive of [name, bytes] (APPNOTE 6.3.3, sections 4.3.7, 4.3.12, 4.3.16). */
async function zip(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [name, bytes] of files) {
    const packed = await deflated(bytes, "deflate-raw");
    // version 2.0, no flags, deflate, 1 January 1980, checksum, sizes, length of the name
    const common = numbers([2, 20], [2, 0], [2, 8], [2, 0], [2, 33], [4, crc32(bytes)], [4, packed.length],
      [4, bytes.length], [2, name.length], [2, 0]); // prettier-ignore
    const local = [numbers([4, 0x04034b50]), common, ascii(name), packed];
    directory.push(numbers([4, 0x02014b50], [2, 20]), common, numbers([2, 0], [2, 0], [2, 0], [4, 0], [4, at]), ascii(name));
    parts.push(...local);
    at += lengthOf(local);
  }
  const size = lengthOf(directory);
  const end = numbers([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, at], [2, 0]);
  return [...parts, ...directory, end];
}

const lengthOf = (pieces) => pieces.reduce((sum, piece) => sum + piece.length, 0);

/** Little-endian numbers of [bytes, value]. */
function numbers(...fields) {
  return Uint8Array.from(fields.flatMap(([bytes, value]) => Array.from({ length: bytes }, (_, i) => (value / 2 ** (8 * i)) & 255)));
}

// -- others ----------------------------------------------------------------------------------------------------------

/** Greyscale PFM: little-endian, rows from the bottom up. */
export function pfm({ width, height, values }) {
  const rows = Array.from({ length: height }, (_, y) => values.subarray((height - 1 - y) * width, (height - y) * width));
  return new Blob([`Pf\n${width} ${height}\n-1.0\n`, ...rows]);
}

/** The text, and the values in base64. */
export async function json({ width, height, values, K, text }) {
  const address = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(new Blob([values]));
  });
  const data = address.slice(address.indexOf(",") + 1);
  const [minimum, maximum] = ends(values);
  const said = { ...text, height, width, minimum, maximum, K: K ? matrix(K) : null,
    values: { encoding: "base64", dtype: "<f4", shape: [height, width], data } }; // prettier-ignore
  return new Blob([JSON.stringify(said)], { type: "application/json" });
}

/** OpenEXR with one channel Z of 32 bits, scan line by scan line, not compressed; the text as attributes. */
export function exr({ width, height, values, quantity, text }) {
  const window = numbers([4, 0], [4, 0], [4, width - 1], [4, height - 1]);
  const one = bytesOf(Float32Array.of(1));
  const attribute = (name, type, data) => [ascii(`${name}\0${type}\0`), numbers([4, data.length]), data];
  const channel = [...ascii(quantity === "disparity" ? "disparity\0" : "Z\0"), ...numbers([4, 2], [4, 0], [4, 1], [4, 1]), 0];
  const header = [
    numbers([4, 0x01312f76], [4, 2]),
    ...attribute("channels", "chlist", Uint8Array.from(channel)),
    ...attribute("compression", "compression", Uint8Array.of(0)),
    ...attribute("dataWindow", "box2i", window),
    ...attribute("displayWindow", "box2i", window),
    ...attribute("lineOrder", "lineOrder", Uint8Array.of(0)),
    ...attribute("pixelAspectRatio", "float", one),
    ...attribute("screenWindowCenter", "v2f", new Uint8Array(8)),
    ...attribute("screenWindowWidth", "float", one),
    ...Object.entries(text).flatMap(([name, value]) => attribute(name, "string", ascii(value))),
    Uint8Array.of(0),
  ];
  const first = lengthOf(header) + 8 * height;
  const line = 8 + 4 * width;
  const offsets = BigUint64Array.from({ length: height }, (_, y) => BigInt(first + y * line));
  const lines = Array.from({ length: height }, (_, y) => [
    numbers([4, y], [4, 4 * width]),
    values.subarray(y * width, (y + 1) * width),
  ]);
  return new Blob([...header, offsets, ...lines.flat()], { type: "image/x-exr" });
}

/** The smallest and the largest value. */
export function ends(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

const matrix = ({ fx, fy, cx, cy }) => [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; // prettier-ignore
