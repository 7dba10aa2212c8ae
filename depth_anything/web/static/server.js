// The answerer of the served page: requests to the server that it came from, with its token where it wants one.

const $ = (id) => document.getElementById(id);

/** What can be had from the server (/v1/models and /v1/colormaps), and `ask`, which gets the files. */
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

/** One file for a picture: { blob, name }. Throws an Error; `needsCamera` where the view angle is not known. */
async function ask({ format, picture, device: _, ...options }) {
  const given = Object.entries(options).filter(([, value]) => value);
  try {
    const answer = await request(`v1/depth?${new URLSearchParams([["format", format], ...given])}`, {
      method: "POST",
      body: picture,
      headers: { "Content-Type": "application/octet-stream" },
    });
    const [, name] = answer.headers.get("Content-Disposition").match(/filename="(.+)"/);
    return { blob: await answer.blob(), name };
  } catch (error) {
    throw Object.assign(error, { needsCamera: error.status === 422 && error.message.includes("camera") });
  }
}

/** A request; asks for the token where the server does. Throws an Error with the server's own line. */
async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.status === 401) {
      const given = await askToken();
      if (!given) throw new Error("This server answers only with its token: load the page again to enter it.");
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

let asking = null; // requests that meet 401 at once share one question

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
