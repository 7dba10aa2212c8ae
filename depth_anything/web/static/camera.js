// The device's camera: its live view, live depth of it, and a photo.

const $ = (id) => document.getElementById(id);
const LIVE_SIDE = 640; // pixels of the longer side of frames for live depth

/**
 * Shows the camera's live view; returns the photo as a Blob, or null if cancelled. Throws if there is no camera.
 *
 * @param draw (frame, canvas): draws the depth map of a Blob; rejects if it cannot
 */
export async function takePicture(draw) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 1920 } },
    });
  } catch {
    throw new Error("The camera cannot be used: there is none, or this page has no permission.");
  }
  const video = $("video");
  const dialog = $("camera");
  video.srcObject = stream;
  dialog.returnValue = "cancel";
  setLive(false);
  $("live").onclick = () => {
    setLive(!isLive());
    if (isLive()) follow(video, draw);
  };
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  setLive(false);
  const photo = dialog.returnValue === "take" ? await frameOf(video, Infinity, 0.95) : null;
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
  return photo;
}

const isLive = () => $("live").getAttribute("aria-pressed") === "true";

function setLive(on) {
  $("live").setAttribute("aria-pressed", String(on));
  $("live-map").hidden = !on;
  $("live-words").textContent = "";
}

let following = 0; // number of the loop that may draw; older ones end

/** Draws the depth of the newest frame again and again. The next frame is taken when the last map is drawn, so none wait. */
async function follow(video, draw) {
  const mine = ++following;
  const delays = [];
  while (isLive() && mine === following) {
    const began = performance.now();
    try {
      const frame = await frameOf(video, LIVE_SIDE, 0.85);
      if (frame && isLive()) await draw(frame, $("live-map"));
    } catch (error) {
      if (mine !== following) return;
      if (isLive()) setLive(false);
      $("live-words").textContent = error.message;
      return;
    }
    await new Promise((resolve) => requestAnimationFrame(resolve));
    delays.push(performance.now() - began);
    if (delays.length > 20) delays.shift();
    const mean = delays.reduce((sum, delay) => sum + delay, 0) / delays.length;
    if (isLive()) $("live-words").textContent = `${Math.round(mean)} ms behind the camera`;
  }
}

/** The current frame as JPEG, its longer side at most `most` pixels; null if there is none yet. */
async function frameOf(video, most, quality) {
  const scale = Math.min(1, most / Math.max(video.videoWidth, video.videoHeight, 1));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight].map((side) => Math.round(side * scale));
  if (!canvas.width) return null;
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}
