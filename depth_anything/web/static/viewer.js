// The 3-D view of a mesh.

import "./vendor/model-viewer.min.js";

/**
 * A <model-viewer> that starts at the position of the photograph's camera, then moves a little aside.
 *
 * @param url of a GLB in the camera's axes
 * @param angle horizontal view angle of the photograph in degrees
 * @param ratio its width over its height
 */
export function viewer(url, angle, ratio) {
  const element = document.createElement("model-viewer");
  const upright = (2 * Math.atan(Math.tan((angle * Math.PI) / 360) / ratio) * 180) / Math.PI;
  const settings = {
    src: url,
    alt: "The image as a surface in 3-D; drag or use the arrow keys to turn it",
    "camera-controls": "",
    "touch-action": "pan-y",
    "interaction-prompt": "none",
    "shadow-intensity": "0",
    "min-camera-orbit": "-75deg 25deg 0m",
    "max-camera-orbit": "75deg 140deg auto",
    "max-field-of-view": `${upright + 12}deg`,
    "field-of-view": `${upright}deg`,
    "interpolation-decay": "120",
  };
  for (const [name, value] of Object.entries(settings)) element.setAttribute(name, value);
  element.append(Object.assign(document.createElement("span"), { slot: "progress-bar" })); // the page has its own progress text
  element.addEventListener("load", () => {
    const middle = -element.getBoundingBoxCenter().z;
    const half = element.getDimensions().z / 2;
    const away = ((middle - half) * (middle + half)) / middle; // distance of the centre of rotation: halfway in disparity
    element.cameraTarget = `0m 0m ${-away}m`;
    element.cameraOrbit = `0deg 90deg ${away}m`;
    element.jumpCameraToGoal();
    element.cameraOrbit = `9deg 86deg ${away}m`;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) element.jumpCameraToGoal();
  });
  return element;
}
