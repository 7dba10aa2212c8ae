// The worker: decodes an image, runs the network, writes files. One message { id, ... } gets one message back.

import { focal35mm } from "./exif.js";
import { fileOf } from "./files.js";
import { load, run } from "./network.js";

let latest = null; // { key, picture, map } of the last image
let queue = Promise.resolve(); // one request after the other

/** The pixels for the network: upright, on white, without applying colour profiles. */
async function decode(blob, maxPixels) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("This browser cannot read that file as an image.");
  }
  const { width, height } = bitmap;
  if (width * height > maxPixels) {
    throw new Error(`The image has ${width} x ${height} pixels; this page accepts ${maxPixels / 1e6} megapixels.`);
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0, j = 0; j < rgba.length; i += 3, j += 4) {
    rgb[i] = rgba[j];
    rgb[i + 1] = rgba[j + 1];
    rgb[i + 2] = rgba[j + 2];
  }
  return { width, height, rgb, canvas, focalMm: await focal35mm(blob) };
}

/** The map of an image; the last one is kept for its other files. */
async function predict({ number, blob, model, device, maxPixels }, tell) {
  const key = `${number} ${device} ${model.name}`;
  if (latest?.key === key) return latest;
  const picture = latest?.number === number ? latest.picture : await decode(blob, maxPixels);
  await load(model, device, tell);
  tell("Predicting depth");
  const began = performance.now();
  const values = await run(model, picture);
  const seconds = (performance.now() - began) / 1000;
  const { width, height } = picture;
  const text = { ...model.text, picture_size: `${width} x ${height}` };
  latest = { key, number, picture, map: { width, height, values, quantity: model.quantity, text }, seconds };
  return latest;
}

async function answer({ id, format, tables, options, ...request }) {
  try {
    const { picture, map, seconds } = await predict(request, (text) => postMessage({ id, text }));
    const file = await fileOf(format, map, picture, tables, options);
    postMessage({ id, ...file, seconds });
  } catch (error) {
    postMessage({ id, error: error.message, needsCamera: error.needsCamera });
  }
}

onmessage = ({ data }) => {
  queue = queue.then(() => answer(data));
};
