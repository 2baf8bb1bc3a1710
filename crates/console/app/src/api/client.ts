// Requests to the Supervisor with the session's token. The console has no API of its own: it is one more client
// of the Kubernetes API, and sees exactly what its user may see.
import { createSignal } from "solid-js";

export interface Session {
  token: string;
  username: string;
  expires?: string | number;
}

const KEY = "podvisor.session";

function stored(): Session | undefined {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

const [session, setSession] = createSignal<Session | undefined>(stored());
const [farewell, setFarewell] = createSignal<string>();
const [unreachable, setUnreachable] = createSignal(false);
export { session };
/** Why the last session ended, when the person did not end it. */
export { farewell };
/** Whether the last request found nobody to answer it. */
export { unreachable };

/** An answer that is no success; `message` is the server's own. */
export class ApiError extends Error {
  constructor(readonly code: number, message: string) {
    super(message);
  }
}

export async function signIn(username: string, password: string): Promise<void> {
  setFarewell(undefined);
  const response = await reach("/podvisor/session", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username, password }),
  });
  if (!response.ok) {
    throw new ApiError(response.status, response.status === 401 ? "Wrong user name or password." : await reason(response));
  }
  const fresh = (await response.json()) as Session;
  sessionStorage.setItem(KEY, JSON.stringify(fresh));
  setSession(fresh);
}

export function signOut(why?: string): void {
  sessionStorage.removeItem(KEY);
  setFarewell(why);
  setSession(undefined);
}

export async function request(path: string, signal?: AbortSignal, accept = "application/json", body?: unknown): Promise<Response> {
  const headers: Record<string, string> = { authorization: `Bearer ${session()?.token ?? ""}`, accept };
  const init: RequestInit = { headers, signal };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(init, { method: "POST", body: JSON.stringify(body) });
  }
  const response = await reach(path, init);
  if (response.status === 401) signOut("Your session has ended. Sign in again.");
  if (!response.ok) throw new ApiError(response.status, await reason(response));
  return response;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await request(path, signal)).json()) as T;
}

/** What somebody asks to do; fields as in a SelfSubjectAccessReview. */
export interface Deed {
  verb: string;
  resource: string;
  subresource?: string;
  group?: string;
  namespace?: string;
}

/** Whether the user may do something. Asked beforehand, so that nothing forbidden is ever tried. */
export async function may(deed: Deed): Promise<boolean> {
  const review = { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectAccessReview", spec: { resourceAttributes: deed } };
  const answer = await request("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", undefined, "application/json", review);
  return ((await answer.json()) as { status?: { allowed?: boolean } }).status?.allowed === true;
}

/** The lines of an endless answer, until it ends or is aborted. */
export async function* lines(response: Response): AsyncGenerator<string> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  if (rest) yield rest;
}

const waiting = new Set<() => void>();

/** Waits for a time, in milliseconds, or until the Supervisor answers somebody again. */
export function pauseFor(time: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      waiting.delete(done);
      resolve();
    };
    const timer = setTimeout(done, time);
    if (unreachable()) waiting.add(done);
  });
}

/** `fetch` that remembers whether anybody answered. */
async function reach(path: string, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(path, init);
    setUnreachable(false);
    for (const wake of [...waiting]) wake();
    return response;
  } catch (error) {
    if (init.signal?.aborted) throw error;
    setUnreachable(true);
    throw new Error("The Supervisor does not answer.");
  }
}

async function reason(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    return body.message ?? body.error ?? text;
  } catch {
    return text || `${response.status} ${response.statusText}`;
  }
}
