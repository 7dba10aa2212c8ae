// Decodes a 16-bit grey PNG with its texts. Browsers decode such files to 8 bits.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** { width, height, values: Uint16Array row by row, text: { keyword: text } } of a PNG that the server wrote. */
export async function decodePng16(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  if (SIGNATURE.some((byte, i) => bytes[i] !== byte)) throw new Error("The response is not a PNG: reload the page.");
  const latin1 = new TextDecoder("latin1");
  const text = {};
  const parts = [];
  let width, height;
  for (let at = 8; at < bytes.length;) {
    const length = view.getUint32(at);
    const kind = latin1.decode(bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "IHDR") {
      [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      if (data[8] !== 16 || data[9] !== 0 || data[12] !== 0)
        throw new Error("The response is not a 16-bit grey PNG: reload the page.");
    } else if (kind === "IDAT") {
      parts.push(data);
    } else if (kind === "tEXt") {
      const end = data.indexOf(0);
      text[latin1.decode(data.subarray(0, end))] = latin1.decode(data.subarray(end + 1));
    }
    at += 12 + length;
  }
  const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(inflated).arrayBuffer());
  return { width, height, values: unfiltered(rows, width, height), text };
}

/** Reverses the five filters of PNG (section 9 of its specification) for two bytes per pixel. */
function unfiltered(rows, width, height) {
  const stride = 2 * width;
  const values = new Uint16Array(width * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const start = y * (stride + 1);
    const filter = rows[start];
    const row = rows.subarray(start + 1, start + 1 + stride);
    for (let i = 0; i < stride; i++) {
      const left = i > 1 ? row[i - 2] : 0;
      const up = above[i];
      if (filter === 1) row[i] += left;
      else if (filter === 2) row[i] += up;
      else if (filter === 3) row[i] += (left + up) >> 1;
      else if (filter === 4) row[i] += paeth(left, up, i > 1 ? above[i - 2] : 0);
    }
    for (let x = 0; x < width; x++) values[y * width + x] = (row[2 * x] << 8) | row[2 * x + 1];
    above = row;
  }
  return values;
}

function paeth(left, up, corner) {
  const toLeft = Math.abs(up - corner);
  const toUp = Math.abs(left - corner);
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}
