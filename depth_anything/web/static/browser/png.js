// PNG with tEXt chunks, as the command `predict` writes it: 8-bit RGB, or 16-bit grey.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 of PNG and ZIP over several pieces. */
export function crc32(...pieces) {
  let crc = 0xffffffff;
  for (const piece of pieces) for (const byte of piece) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Bytes compressed in a format of CompressionStream: "deflate" (zlib) or "deflate-raw". */
export async function deflated(bytes, format) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream(format));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The bytes of a text in Latin-1, the encoding of tEXt; other characters become "?". */
const latin1 = (text) => Uint8Array.from(text, (letter) => (letter.codePointAt(0) < 256 ? letter.codePointAt(0) : 63));

function chunk(kind, data) {
  const name = latin1(kind);
  const head = new DataView(new ArrayBuffer(4));
  const tail = new DataView(new ArrayBuffer(4));
  head.setUint32(0, data.length);
  tail.setUint32(0, crc32(name, data));
  return [head.buffer, name, data, tail.buffer];
}

/** A PNG as a Blob. `rows` holds height rows of stride bytes, big-endian, without filters. */
async function png(width, height, rows, stride, depth, colorType, text) {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, depth);
  header.setUint8(9, colorType);
  const filtered = new Uint8Array(height * (stride + 1));
  for (let y = 0; y < height; y++) {
    const to = y * (stride + 1);
    const from = y * stride;
    filtered[to] = y && 2; // "up": the difference from the row above
    for (let i = 0; i < stride; i++) filtered[to + 1 + i] = rows[from + i] - (y ? rows[from + i - stride] : 0);
  }
  const texts = Object.entries(text).flatMap(([key, value]) => chunk("tEXt", latin1(`${key}\0${value}`)));
  const parts = [
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    ...chunk("IHDR", new Uint8Array(header.buffer)),
    ...texts,
    ...chunk("IDAT", await deflated(filtered, "deflate")),
    ...chunk("IEND", new Uint8Array()),
  ];
  return new Blob(parts, { type: "image/png" });
}

/** RGB, 3 bytes per pixel. */
export const pngOfColors = (width, height, rgb, text) => png(width, height, rgb, 3 * width, 8, 2, text);

/** Grey, 16 bits per pixel. */
export function pngOf16Bits(width, height, values, text) {
  const rows = new Uint8Array(2 * values.length);
  for (let i = 0; i < values.length; i++) {
    rows[2 * i] = values[i] >> 8;
    rows[2 * i + 1] = values[i];
  }
  return png(width, height, rows, 2 * width, 16, 0, text);
}
