// The focal length in the EXIF 2.32 data of a JPEG, as its 35 mm equivalent in millimetres; null if there is none.

const [EXIF_BLOCK, FOCAL, FOCAL_35MM, WIDTH, HEIGHT, PER_UNIT, UNIT] = [
  0x8769, 0x920a, 0xa405, 0xa002, 0xa003, 0xa20e, 0xa210,
];
const UNIT_MM = { 2: 25.4, 3: 10, 4: 1, 5: 0.001 };

export async function focal35mm(blob) {
  try {
    const tiff = exifOf(new DataView(await blob.slice(0, 2 ** 18).arrayBuffer()));
    return tiff && focalOf(tiff);
  } catch (error) {
    if (error instanceof RangeError) return null; // the block is cut short or damaged
    throw error;
  }
}

/** The TIFF structure in the segment APP1 "Exif" of a JPEG. */
function exifOf(view) {
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return null;
  for (let at = 2; at + 10 < view.byteLength && view.getUint8(at) === 0xff;) {
    const [marker, length] = [view.getUint8(at + 1), view.getUint16(at + 2)];
    if (marker === 0xe1 && view.getUint32(at + 4) === 0x45786966) return new DataView(view.buffer, at + 10, length - 8);
    if (marker === 0xda) return null; // pixels begin
    at += 2 + length;
  }
  return null;
}

function focalOf(view) {
  const little = view.getUint16(0) === 0x4949;
  const tags = block(view, little, view.getUint32(4, little));
  const about = tags[EXIF_BLOCK] && block(view, little, tags[EXIF_BLOCK]);
  if (!about) return null;
  const possible = (mm) => (mm >= 4 && mm <= 10_000 ? mm : null);
  const stated = possible(about[FOCAL_35MM]);
  if (stated) return stated;
  const sensor = (Math.hypot(about[WIDTH], about[HEIGHT]) / about[PER_UNIT]) * UNIT_MM[about[UNIT] ?? 2];
  return possible((about[FOCAL] * Math.hypot(36, 24)) / sensor);
}

/** { tag: its first number } of one directory. */
function block(view, little, at) {
  const tags = {};
  for (let i = 0; i < view.getUint16(at, little); i++) {
    const entry = at + 2 + 12 * i;
    const [tag, type] = [view.getUint16(entry, little), view.getUint16(entry + 2, little)];
    if (type === 3) tags[tag] = view.getUint16(entry + 8, little);
    if (type === 4) tags[tag] = view.getUint32(entry + 8, little);
    if (type === 5) {
      const place = view.getUint32(entry + 8, little);
      tags[tag] = view.getUint32(place, little) / view.getUint32(place + 4, little);
    }
  }
  return tags;
}
