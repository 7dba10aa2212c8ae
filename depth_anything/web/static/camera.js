// Takes a photo with the device's camera.

const $ = (id) => document.getElementById(id);

/** Shows the camera's live view; returns the photo as a Blob, or null if cancelled. Throws if there is no camera. */
export async function takePicture() {
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
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const taken = dialog.returnValue === "take" && canvas.width > 0;
  if (taken) canvas.getContext("2d").drawImage(video, 0, 0);
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
  return taken ? new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95)) : null;
}
