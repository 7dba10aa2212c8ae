// Metres, points and normals from a map: the equations of depth_anything/geometry/ in the browser.
// Points are [x0, y0, z0, x1, ...] in camera axes (x right, y down, z forward) in metres, NaN where unknown.

import { ends } from "./arrays.js";

export const EDGE = 0.05; // relative change of depth from one pixel to the next: camera.py's EDGE
const FILM_DIAGONAL_MM = Math.hypot(36, 24);

/** The pinhole camera of a horizontal field of view in degrees, or of a focal length as its 35 mm equivalent. */
export function camera(width, height, { fov, focalMm }) {
  const focal = fov
    ? width / 2 / Math.tan((fov * Math.PI) / 360)
    : (focalMm * Math.hypot(width, height)) / FILM_DIAGONAL_MM;
  return { fx: focal, fy: focal, cx: (width - 1) / 2, cy: (height - 1) / 2 };
}

/** Metres: the largest disparity is `near`, the smallest `far`, 1/metres is linear between. */
export function nearFar(disparity, near, far) {
  if (!(0 < near && near < far && far < Infinity))
    throw new Error(`near ${near} and far ${far}: expected metres with 0 < near < far`);
  const [low, high] = ends(disparity);
  if (!(high > low)) throw new Error("The map is constant: near and far cannot be assigned to it.");
  const scale = (1 / near - 1 / far) / (high - low);
  const shift = 1 / far - scale * low;
  return disparity.map((value) => 1 / (scale * value + shift));
}

/** Points of metres along the optical axis (0: unknown) and a camera. */
export function unproject({ width, height, values }, { fx, fy, cx, cy }) {
  const points = new Float32Array(3 * values.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const z = values[i] > 0 ? values[i] : NaN;
      points[3 * i] = ((x - cx) / fx) * z;
      points[3 * i + 1] = ((y - cy) / fy) * z;
      points[3 * i + 2] = z;
    }
  }
  return points;
}

/** Surface normals as RGB: x right, y up, z to the viewer; black where unknown. */
export function normalColors(points, width, height) {
  const rgb = new Uint8Array(points.length);
  const across = new Float64Array(3);
  const down = new Float64Array(3);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      step(across, points, i, 1, x > 0, x < width - 1);
      step(down, points, i, width, y > 0, y < height - 1);
      const normal = [0, 1, 2].map((c) => {
        const [a, b] = [(c + 1) % 3, (c + 2) % 3];
        return down[a] * across[b] - down[b] * across[a];
      });
      const length = Math.hypot(...normal);
      if (!(length > 0)) continue;
      const away = normal.reduce((sum, value, c) => sum + value * points[3 * i + c], 0) > 0;
      const scale = (away ? -0.5 : 0.5) / length;
      rgb[3 * i] = Math.round((normal[0] * scale + 0.5) * 255);
      rgb[3 * i + 1] = Math.round((-normal[1] * scale + 0.5) * 255);
      rgb[3 * i + 2] = Math.round((-normal[2] * scale + 0.5) * 255);
    }
  }
  return rgb;
}

/** The direction of the surface along an axis: from the previous to the next point, or half of that at an edge. */
function step(out, points, i, stride, hasPrevious, hasNext) {
  const difference = (a, b, c) => points[3 * a + c] - points[3 * b + c];
  const forward = hasNext ? Math.abs(difference(i + stride, i, 2)) : NaN;
  const backward = hasPrevious ? Math.abs(difference(i, i - stride, 2)) : NaN;
  const smooth = Math.max(forward, backward) <= EDGE * points[3 * i + 2]; // false where either is unknown
  const useForward = forward <= backward || Number.isNaN(backward);
  for (let c = 0; c < 3; c++) {
    if (smooth) out[c] = difference(i + stride, i - stride, c);
    else if (useForward) out[c] = hasNext ? difference(i + stride, i, c) : NaN;
    else out[c] = difference(i, i - stride, c);
  }
}
