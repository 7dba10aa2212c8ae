// The backend of the served page: requests to its server, with a token if the server requires one.

const $ = (id) => document.getElementById(id);

/** The server's models, formats and colours (/v1/models and /v1/colormaps), and `ask`, which requests files. */
export async function connect() {
  const [server, tables] = await Promise.all(
    ["v1/models", "v1/colormaps"].map(async (path) => (await request(path)).json()),
  );
  return {
    ...server,
    tables,
    ask,
    privacy: server.keeps_pictures
      ? "This server keeps the images that it receives."
      : "Your image is sent to this server only. It is not stored.",
  };
}

/** Requests a file of an image: { blob, name }. Throws an Error, with `needsCamera` if the view angle is not known. */
async function ask({ format, picture, device: _, ...options }) {
  const given = Object.entries(options).filter(([, value]) => value);
  try {
    const response = await request(`v1/depth?${new URLSearchParams([["format", format], ...given])}`, {
      method: "POST",
      body: picture,
      headers: { "Content-Type": "application/octet-stream" },
    });
    const [, name] = response.headers.get("Content-Disposition").match(/filename="(.+)"/);
    return { blob: await response.blob(), name };
  } catch (error) {
    throw Object.assign(error, { needsCamera: error.status === 422 && error.message.includes("camera") });
  }
}

/** Sends a request; asks the user for the token if necessary. Throws an Error with the server's message. */
async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Error("The server does not respond. Is it still running?");
    }
    if (response.status === 401) {
      const given = await askToken();
      if (!given) throw new Error("This server requires a token: reload the page to enter it.");
      sessionStorage.setItem("token", given);
      continue;
    }
    if (response.ok) return response;
    const detail = await response.json().then(
      (body) => body.detail,
      () => response.statusText,
    );
    const later = response.headers.get("Retry-After");
    throw Object.assign(new Error(later ? `${detail} (in about ${later} s)` : detail), { status: response.status });
  }
}

let asking = null; // simultaneous requests with status 401 share one dialog

function askToken() {
  asking ??= new Promise((resolve) => {
    $("token").value = "";
    $("key").returnValue = "";
    $("key").addEventListener(
      "close",
      () => {
        asking = null;
        resolve($("key").returnValue === "ok" ? $("token").value : "");
      },
      { once: true },
    );
    $("key").showModal();
  });
  return asking;
}
