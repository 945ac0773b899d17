// Calls of the API. A refusal is thrown as an Error with the kind and the detail of the problem.

export class Refusal extends Error {
  constructor(status, problem, wait) {
    super(problem.detail || problem.title || `the service answered ${status}`);
    this.status = status;
    this.kind = (problem.type || "").split(":").pop();
    this.wait = wait;
  }
}

let token = new URLSearchParams(location.hash.slice(1)).get("token") || sessionStorage.getItem("token");
if (location.hash.includes("token=")) {
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname);
}

let asking = null;

function askForToken() {
  // Several calls may be refused at once; one dialog serves them all.
  asking ||= new Promise((resolve) => {
    const dialog = document.getElementById("ask");
    dialog.addEventListener("close", () => {
      token = document.getElementById("token").value;
      sessionStorage.setItem("token", token);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { detail: "the service cannot be reached" });
  }
  if (response.status === 401) {
    await askForToken();
    return call(path, options);
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Refusal(response.status, problem, Number(response.headers.get("Retry-After")) || 1);
  }
  return response;
}

function query(options) {
  const given = Object.entries(options).filter(([, value]) => value !== "" && value !== undefined);
  return new URLSearchParams(given).toString();
}

// A template is the name of one of the service's, or { toml, reference }.
function withTemplate(form, template) {
  if (!template) return;
  if (typeof template === "string") {
    form.append("template", template);
    return;
  }
  form.append("template", new Blob([template.toml], { type: "application/toml" }), "form.toml");
  if (template.reference) form.append("reference", template.reference, "form.jpg");
}

export async function templates() {
  return (await (await call("/v1/templates")).json()).templates;
}

const HIDDEN = /(pdf|hei[cf]|hif|tiff?)$/i;

export async function read(blob, name, options, signal) {
  const form = new FormData();
  form.append("file", blob, name);
  // The browser shows the file itself, unless it cannot.
  const picture = HIDDEN.test(name) || HIDDEN.test(blob.type) || undefined;
  const { form: template, ...others } = options;
  withTemplate(form, template);
  const path = `/v1/read?${query({ ...others, glyphs: true, picture })}`;
  const answer = await (await call(path, { method: "POST", body: form, signal })).json();
  return answer.readings;
}

// Under load the service says when to try again. A batch can wait; a person who draws cannot.
export async function readPatiently(blob, name, options, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await read(blob, name, options, signal);
    } catch (error) {
      if (error.status !== 503 || tries >= 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.wait * (0.5 + Math.random())));
      signal.throwIfAborted();
    }
  }
}

export async function explain(pixels, value) {
  const body = JSON.stringify({ glyph: pixels, value });
  const headers = { "Content-Type": "application/json" };
  return (await (await call("/v1/explain", { method: "POST", body, headers })).json()).weights;
}

// `said` is { label }, of a digit, or { text }, of a line.
export async function correct(blob, name, options, box, said, author, page) {
  const form = new FormData();
  const { form: template, ...others } = options;
  for (const [key, value] of Object.entries({ ...others, box: box.join(","), ...said, author, page })) {
    if (value !== "" && value !== undefined) form.append(key, value);
  }
  form.append("file", blob, name);
  withTemplate(form, template);
  return (await call("/v1/corrections", { method: "POST", body: form })).json();
}

export async function undoCorrection(id) {
  return (await call(`/v1/corrections/${id}`, { method: "DELETE" })).json();
}

export async function corrections(offset, limit, lines) {
  return (await (await call(`/v1/corrections?${query({ offset, limit, lines })}`)).json()).corrections;
}

// Pictures are fetched, because an <img> cannot send the token.
export async function picture(id, name) {
  return URL.createObjectURL(await (await call(`/v1/corrections/${id}/${name}.png`)).blob());
}
