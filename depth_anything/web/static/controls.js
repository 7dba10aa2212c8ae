// Controls that depend on the backend: colour maps, and formats to download.

const FORMS = {
  color: ["Colours", "PNG for viewing"],
  png16: ["16-bit PNG", "16 bits per pixel"],
  npz: ["NPZ", "float32 for Python"],
  npy: ["NPY", "float32 only"],
  json: ["JSON", "float32 as base64"],
  exr: ["EXR", "float32 for compositing"],
  pfm: ["PFM", "float32, no metadata"],
  side: ["Side by side", "image and colours"],
  control: ["Control image", "for a depth ControlNet"],
  normals: ["Normals", "surface directions"],
  confidence: ["Confidence", "white is sure"],
  ply: ["Points", "PLY, coloured"],
  glb: ["Mesh", "GLB, textured"],
  rgbz: ["EXR with image", "linear RGB and the map"],
  sbs: ["Stereo pair", "left and right eye"],
  anaglyph: ["Anaglyph", "for red-cyan glasses"],
  colmap: ["COLMAP map", "metres, binary"],
  colmap_camera: ["COLMAP camera", "cameras.bin"],
};

/** A radio button with a colour ramp for every colour map; the first is checked. `tables` as from /v1/colormaps. */
export function swatches(tables, onchange) {
  return Object.entries(tables).map(([name, table], i) => {
    const input = element("input", { type: "radio", name: "colors", value: name, checked: i === 0, onchange });
    const stops = [0, 51, 102, 153, 204, 255].map((step) => `rgb(${table[step].join(" ")})`);
    const swatch = element("span");
    swatch.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const label = element("label");
    label.append(input, swatch, name.replace("_r", ""));
    return label;
  });
}

/** A list item with a button for every format that the backend and this page know; `onclick(form, button)`. */
export function downloadButtons(formats, onclick) {
  return Object.keys(FORMS)
    .filter((form) => formats.includes(form))
    .map((form) => {
      const [name, what] = FORMS[form];
      const button = element("button", { type: "button", onclick: () => onclick(form, button) });
      button.dataset.form = form;
      button.append(element("b", { textContent: name }), element("span", { textContent: what }));
      const item = element("li");
      item.append(button);
      return item;
    });
}

const element = (kind, properties = {}) => Object.assign(document.createElement(kind), properties);
