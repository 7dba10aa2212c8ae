// A picture from the device's camera.

const $ = (id) => document.getElementById(id);

/** Shows the camera's live view; answers the picture taken as a Blob, or null. Throws where there is no camera. */
export async function takePicture() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 1920 } },
    });
  } catch {
    throw new Error("The camera cannot be used: none is there, or this page was not allowed to.");
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
