// The backend of the page without a server: a worker that runs the network in this browser.

/** As in server.js: models, formats and colours, and `ask`. `tell(text)` is called with the progress. */
export async function connect(tell) {
  const page = await (await fetch(new URL("../../page.json", import.meta.url))).json();
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const waiting = new Map(); // id -> [resolve, reject]
  const numbers = new WeakMap(); // picture -> its number, by which the worker recognises it
  let [ids, pictures] = [0, 0];

  worker.onmessage = ({ data: { id, text, error, needsCamera, ...file } }) => {
    if (text) return tell(text);
    const [resolve, reject] = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(file);
    else reject(Object.assign(new Error(error), { needsCamera }));
  };
  worker.onerror = (event) => {
    event.preventDefault();
    for (const [, reject] of waiting.values()) reject(new Error("A part of this page could not be loaded: try again."));
    waiting.clear();
  };

  function ask({ format, picture, model, device, colors, near, far, fov }) {
    if (!numbers.has(picture)) numbers.set(picture, ++pictures);
    const id = ++ids;
    worker.postMessage({
      id,
      format: page.files.find((row) => row.name === format),
      tables: page.tables,
      number: numbers.get(picture),
      blob: picture,
      model: page.models.find((row) => row.name === model),
      device,
      maxPixels: page.max_pixels,
      options: { colors, near: Number(near), far: Number(far), fov: Number(fov) },
    });
    return new Promise((resolve, reject) => waiting.set(id, [resolve, reject]));
  }

  return {
    ...page,
    ask,
    devices: (await navigator.gpu?.requestAdapter()) ? ["wasm", "webgpu"] : ["wasm"],
    privacy: "Your image stays in this browser: it is not uploaded.",
  };
}
