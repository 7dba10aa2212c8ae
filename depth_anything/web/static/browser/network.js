// ONNX Runtime on an exported file: resizing and normalisation are in its graph.

const RUNTIME = new URL("../vendor/onnxruntime-web/", import.meta.url).href;
const MOST_THREADS = 4;
const BUILDS = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };

/** Threads need shared memory, which browsers provide only to pages with the headers COOP and COEP. */
export const threads = () => (self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1);

const runtimes = {};
let loaded = null; // { key, session }: only one model at a time, to save memory

async function runtime(device) {
  runtimes[device] ??= import(RUNTIME + BUILDS[device]);
  const ort = await runtimes[device];
  ort.env.wasm.wasmPaths = RUNTIME;
  ort.env.wasm.numThreads = threads();
  ort.env.logLevel = "error";
  return ort;
}

/** The bytes of a file; `tell(text)` is called with the progress. */
async function download(url, size, tell) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`The model cannot be loaded: ${url} has status ${response.status}.`);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (let reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) throw new Error(`The model cannot be loaded: ${url} is not the file that was published.`);
    bytes.set(value, at);
    at += value.length;
    tell(`Loading the model: ${(at / 1e6).toFixed(1)} of ${(size / 1e6).toFixed(1)} MB`);
  }
  if (at !== size) throw new Error(`The model cannot be loaded: ${url} was cut short.`);
  return bytes;
}

/** Loads a model. */
export async function load(model, device, tell) {
  const key = `${device} ${model.file}`;
  if (loaded?.key === key) return;
  await loaded?.session.release();
  loaded = null;
  const [ort, bytes] = await Promise.all([
    runtime(device),
    download(new URL(`../../${model.file}`, import.meta.url), model.bytes, tell),
  ]);
  tell("Preparing the model");
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [device], logSeverityLevel: 3 });
  loaded = { key, ort, session };
}

/** Predicts the map of an image: float32, row by row. `rgb` has 3 bytes per pixel. */
export async function run(model, { width, height, rgb }) {
  const { ort, session } = loaded;
  const image = new ort.Tensor("uint8", rgb, [height, width, 3]);
  const results = await session.run({ [model.input]: image });
  return results[model.output].getData();
}
