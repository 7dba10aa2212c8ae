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
    askLive,
    endLive,
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

let live = null; // the LiveConnection, or the failed one of a server (or a proxy) that gives none

/**
 * As `ask`, for one frame of the camera after the other: on a WebSocket, or by requests where none can be opened. A frame
 * for which a newer one was sent may be rejected.
 */
async function askLive({ picture, device: _, ...options }) {
  const query = new URLSearchParams(Object.entries(options).filter(([, value]) => value)).toString();
  if (live?.query !== query || live.ended) {
    endLive();
    live = new LiveConnection(query);
  }
  const connection = live;
  return (await connection.opened) ? connection.map(picture) : ask({ picture, ...options });
}

/** Closes the WebSocket. */
function endLive() {
  live?.socket.close();
  live = null;
}

/** A WebSocket to v1/live (docs/serve.md): frames are sent, and each reply names its frame. */
class LiveConnection {
  open = false;
  ended = false; // it was open before
  sent = 0;
  waiting = new Map(); // number of a frame -> [resolve, reject]

  constructor(query) {
    this.query = query;
    const address = new URL(`v1/live?${query}`, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address, ["depth-anything", ...tokenProtocol()]);
    this.opened = new Promise((resolve) => {
      this.socket.onopen = () => {
        this.open = true;
        resolve(true);
      };
      this.socket.onclose = () => {
        resolve(false);
        this.ended = this.open;
        this.settle(this.sent, new Error("The connection to the server has ended. Is it still running?"));
      };
    });
    let head = null; // of the map that follows
    this.socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return this.settle(head.frame, null, { blob: data });
      head = JSON.parse(data);
      if (head.status !== 200) this.settle(head.frame, new Error(head.detail));
    };
  }

  /** The map of a frame: { blob }. */
  map(frame) {
    this.socket.send(frame);
    const number = ++this.sent;
    return new Promise((resolve, reject) => this.waiting.set(number, [resolve, reject]));
  }

  /** Gives a frame its map or error; the server has dropped older ones that still wait. */
  settle(number, error, map) {
    for (const [other, [resolve, reject]] of this.waiting) {
      if (other > number) continue;
      this.waiting.delete(other);
      if (other === number && !error) resolve(map);
      else reject(error ?? new Error("A newer frame was sent."));
    }
  }
}

/** The token as a subprotocol: browsers cannot set headers of a WebSocket. */
function tokenProtocol() {
  const token = sessionStorage.getItem("token");
  return token ? [`bearer.${btoa(token).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "")}`] : [];
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
