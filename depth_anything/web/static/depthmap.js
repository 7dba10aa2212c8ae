// A map with readings in words, and colours.

const MAX_SIDE = 1600; // of the canvas; readings have full resolution
const FARTHEST_STORED_M = 65.535; // 16 bits of millimetres

const FOLLOW = 0.1; // how far the range of a live view moves towards that of each map

/**
 * The colour range of a live view. A range for every map would flicker; this one is the mean of the maps' 1st to 99th
 * percentiles, newer ones counting more: ten maps cover two thirds of a change.
 */
export class LiveRange {
  ends = null; // [low, high] in the unit of the map

  /** Takes the next map into account, and returns the ends. */
  follow(map) {
    const next = map.known ? [map.percentile(1), map.percentile(99)] : this.ends;
    this.ends = this.ends?.map((end, i) => end + FOLLOW * (next[i] - end)) ?? next;
    return this.ends;
  }
}

export class DepthMap {
  /** @param png what decodePng16 returns: millimetres (0 unknown), or disparity from its minimum to its maximum. */
  constructor({ width, height, values, text }) {
    Object.assign(this, { width, height, values, text });
    this.metric = text.quantity === "depth_m";
    this.low = this.metric ? 0 : Number(text.disparity_min);
    this.step = this.metric ? 0.001 : (Number(text.disparity_max) - this.low) / 65535;
    this.upTo = new Uint32Array(65537); // upTo[v]: how many known pixels are stored below v
    const count = new Uint32Array(65536);
    for (const value of values) count[value]++;
    if (this.metric) count[0] = 0;
    for (let v = 0; v < 65536; v++) this.upTo[v + 1] = this.upTo[v] + count[v];
    this.known = this.upTo[65536];
    this.smallest = count.findIndex((n) => n > 0);
    this.largest = count.findLastIndex((n) => n > 0);
  }

  /** The two ends of the range as text: [farthest, nearest]. */
  ends() {
    if (!this.known) return ["", ""];
    const [a, b] = [this.smallest, this.largest].map((v) => this.number(v));
    return this.metric ? [b, a] : [a, b];
  }

  number(stored) {
    const value = this.low + stored * this.step;
    if (!this.metric) return value.toFixed(2);
    return value >= FARTHEST_STORED_M ? "65.5 m or more" : `${value.toFixed(value < 10 ? 2 : 1)} m`;
  }

  /** Of a pixel: its value, its rank in the image, and its nearness from 0 to 1; null if unknown. */
  reading(x, y) {
    const stored = this.values[y * this.width + x];
    if (this.metric && stored === 0) return null;
    const farther = this.metric ? this.known - this.upTo[stored + 1] : this.upTo[stored];
    const percent = Math.round((100 * farther) / Math.max(this.known, 1));
    return {
      value: this.metric ? `${this.number(stored)} away` : `disparity ${this.number(stored)}`,
      place: `nearer than ${percent} % of the image`,
      nearness: this.nearness(stored),
    };
  }

  /** Value below which so many per cent of the known pixels lie. */
  percentile(percent) {
    const rank = Math.max(1, (percent / 100) * this.known);
    return this.low + (this.upTo.findIndex((n) => n >= rank) - 1) * this.step;
  }

  /** From 0 (far) to 1 (near), between two stored values, by default the smallest and the largest of the map. */
  nearness(stored, [least, most] = [this.smallest, this.largest]) {
    if (most <= least) return 0;
    const along = Math.max(0, Math.min(1, (stored - least) / (most - least)));
    return this.metric ? 1 - along : along;
  }

  /**
   * Draws the map in the colours of a table (256 times [red, green, blue], farthest first), over its own range or
   * between two values.
   */
  draw(canvas, table, ends = null) {
    const range = ends?.map((end) => (end - this.low) / this.step) ?? [this.smallest, this.largest];
    const scale = Math.min(1, MAX_SIDE / Math.max(this.width, this.height));
    canvas.width = Math.max(1, Math.round(this.width * scale));
    canvas.height = Math.max(1, Math.round(this.height * scale));
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let y = 0, i = 0; y < canvas.height; y++) {
      const row = Math.floor(((y + 0.5) * this.height) / canvas.height) * this.width;
      for (let x = 0; x < canvas.width; x++, i += 4) {
        const stored = this.values[row + Math.floor(((x + 0.5) * this.width) / canvas.width)];
        const known = !(this.metric && stored === 0);
        const color = known ? table[Math.round(255 * this.nearness(stored, range))] : [0, 0, 0];
        image.data.set(color, i);
        image.data[i + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }
}
