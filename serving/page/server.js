// Requests: the key, the waiting and the text of a problem are settled here for all of them.

const KEY = "alexnet-key";
const form = document.getElementById("key");
let typing; // a promise, while somebody is asked for the key

/** One line for the reader, announced by screen readers; `kind`: answer, problem or nothing. */
export function say(text, kind = "") {
  const line = document.getElementById("status");
  line.textContent = text;
  line.className = kind;
}

/** The Response to GET, or POST where `file` is given, once the server gives one. Throws Error. */
export async function ask(path, file) {
  const body = file && new FormData();
  body?.append("file", file);
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    // Relative, so that a proxy may put the server under any path.
    const response = await fetch(path.replace(/^\//, ""), {
      method: body ? "POST" : "GET", body, headers,
    }).catch(() => {
      throw new Error("The server does not answer. Check that it runs and that you are online.");
    });
    if (response.ok) return response;

    const { detail } = await response.json().catch(() => ({}));
    const text = detail ?? `The server answered with ${response.status} ${response.statusText}.`;
    if (response.status === 401 || response.status === 403) await needKey(key, text);
    else if (response.status === 429 || response.status === 503) {
      const wait_s = Number(response.headers.get("retry-after")) || 1;
      say(`The server cannot answer yet: ${text}. This page tries again by itself.`);
      await new Promise((done) => setTimeout(done, 1000 * wait_s));
      say("");
    } else throw new Error(text);
  }
}

/** An image that may need the key, as a URL for <img>. */
export async function imageURL(path, file) {
  return URL.createObjectURL(await (await ask(path, file)).blob());
}

/** Resolves when the stored key is no longer `refused`. */
export function needKey(refused = null, text = "") {
  if (sessionStorage.getItem(KEY) !== refused) return;
  typing ??= new Promise((done) => {
    if (refused !== null) say(text, "problem");
    form.hidden = false;
    form.elements[0].focus();
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, form.elements[0].value.trim());
      form.reset();
      form.hidden = true;
      say("");
      typing = undefined;
      done();
    };
  });
  return typing;
}
