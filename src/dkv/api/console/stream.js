// The one stream of a manager, and what is asked beside it. Addresses are relative: the page works below any path of a proxy.
// @ts-check

const SILENCE = 15000; // ms after which a stream without a word counts as broken
const HIDDEN = 20000; // ms after which a tab that is not seen gives its connection back: a browser has six for a host

/** What the manager is shown, of this tab only. */
export const credential = {
  get: () => sessionStorage.getItem("dkv.credential") ?? "",
  set: (value) => sessionStorage.setItem("dkv.credential", value),
  forget: () => sessionStorage.removeItem("dkv.credential"),
};

/** An answer that is a refusal: its sentence, and what helps. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The manager answers ${status}.`);
    this.status = status;
    this.code = problem.code ?? "";
    this.hint = problem.hint ?? "";
    this.hintParts = problem.hintParts ?? [];
  }
}

/** Send one request; the JSON of the answer. Throws Refused, TypeError when nobody answers. */
export async function ask(method, path, body, headers = {}) {
  const answer = await fetch(at(path), {
    method,
    headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...shown(), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
  });
  const text = await answer.text();
  if (!answer.ok) throw new Refused(answer.status, parsed(text) ?? {});
  return parsed(text);
}

/** Follow the live view for ever. `take` gets each message, `broken` why there is none; ends where a credential is needed. */
export async function follow(take, broken, refused) {
  if (!(await welcome())) return refused(new Refused(401, { detail: "This manager asks who you are." }));
  for (let wait = 250; ; wait = Math.min(2000, wait * 2)) {
    await seen();
    try {
      await once((message) => {
        wait = 250;
        take(message);
      });
      broken("the manager ended the stream");
    } catch (error) {
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) return refused(error);
      broken(error instanceof Refused ? error.message : "the manager does not answer");
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Whether to ask at all: a request without a credential that needs one is a refused one, which the domain takes note of. */
async function welcome() {
  if (credential.get()) return true;
  try {
    return "serverId" in (await ask("GET", "admin/v1/identity"));
  } catch {
    return true; // the stream will say what is wrong
  }
}

/** Wait until somebody can see this tab. */
function seen() {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve(undefined);
    };
    document.addEventListener("visibilitychange", look);
    look();
  });
}

async function once(take) {
  const control = new AbortController();
  let hidden;
  const hide = () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(() => control.abort(), HIDDEN);
  };
  document.addEventListener("visibilitychange", hide);
  let timer = setTimeout(() => control.abort(), SILENCE);
  try {
    const answer = await fetch(at("admin/v1/live"), {
      headers: { Accept: "text/event-stream", ...shown() },
      credentials: "omit",
      cache: "no-store",
      signal: control.signal,
    });
    if (!answer.ok || !answer.body) throw new Refused(answer.status, parsed(await answer.text()) ?? {});
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => control.abort(), SILENCE);
      const pieces = (rest + value).split("\n\n");
      rest = pieces.pop() ?? "";
      for (const piece of pieces) {
        if (piece.startsWith("data: ")) take(JSON.parse(piece.slice(6)));
      }
    }
  } finally {
    document.removeEventListener("visibilitychange", hide);
    clearTimeout(hidden);
    clearTimeout(timer);
    control.abort();
  }
}

function at(path) {
  return new URL(path.replace(/^\//, ""), document.baseURI);
}

function shown() {
  const value = credential.get();
  return value ? { Authorization: value } : {};
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
