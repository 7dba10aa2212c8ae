// node depth_in_node.mjs PACKAGES FOLDER DTYPE OUT [IMAGE ...]: what transformers.js makes of an exported folder.
// Writes OUT/N.f32 and prints [{ shape, levels }] of the pipeline's maps, then of the model for OUT/input.f32 if there is one.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

const [packages, folder, dtype, out, ...images] = process.argv.slice(2);
const library = createRequire(join(packages, "package.json")).resolve("@huggingface/transformers");
const { AutoModelForDepthEstimation, Tensor, env, pipeline } = await import(library);
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);

const told = [];
function keep(tensor, levels) {
  writeFileSync(join(out, `${told.length}.f32`), Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength));
  told.push({ shape: tensor.dims, levels });
}

const estimate = await pipeline("depth-estimation", basename(folder), { dtype });
for (const image of images) {
  const { predicted_depth, depth } = await estimate(image);
  keep(predicted_depth, [depth.width, depth.height]);
}
const given = join(out, "input.f32");
if (existsSync(given)) {
  const shape = JSON.parse(readFileSync(join(out, "input.json"), "utf-8"));
  const numbers = new Float32Array(readFileSync(given).buffer.slice(0));
  const model = await AutoModelForDepthEstimation.from_pretrained(basename(folder), { dtype });
  const { predicted_depth } = await model({ pixel_values: new Tensor("float32", numbers, shape) });
  keep(predicted_depth);
}
console.log(JSON.stringify(told));
