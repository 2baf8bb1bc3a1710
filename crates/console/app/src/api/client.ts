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
export { session };

/** An answer that is no success; `message` is the server's own. */
export class ApiError extends Error {
  constructor(readonly code: number, message: string) {
    super(message);
  }
}

export async function signIn(username: string, password: string): Promise<void> {
  const response = await fetch("/podvisor/session", {
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

export function signOut(): void {
  sessionStorage.removeItem(KEY);
  setSession(undefined);
}

export async function request(path: string, signal?: AbortSignal, accept = "application/json"): Promise<Response> {
  const response = await fetch(path, { headers: { authorization: `Bearer ${session()?.token ?? ""}`, accept }, signal });
  if (response.status === 401) signOut();
  if (!response.ok) throw new ApiError(response.status, await reason(response));
  return response;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await request(path, signal)).json()) as T;
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

async function reason(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    return body.message ?? body.error ?? text;
  } catch {
    return text || `${response.status} ${response.statusText}`;
  }
}
