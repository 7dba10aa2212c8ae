// Requests to the server that this page came from, and its token where it wants one.

const $ = (id) => document.getElementById(id);

/** A request; asks for the token where the server does. Throws an Error with the server's own line. */
export async function request(path, options = {}) {
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
