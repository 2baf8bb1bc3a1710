// A process in a container, over the WebSocket protocol of `kubectl exec` (v5.channel.k8s.io): every message begins
// with the number of its channel.
import { session } from "./client";

const PROTOCOL = "v5.channel.k8s.io";
/** A browser cannot send headers with a WebSocket; the token travels as the name of a protocol. */
const BEARER = "base64url.bearer.authorization.k8s.io.";
const [STDIN, STDOUT, STDERR, ERROR, RESIZE] = [0, 1, 2, 3, 4];

export interface Target {
  namespace: string;
  pod: string;
  container: string;
  command: string[];
}

/** How a process ended: as words for the person. */
export type Ending = { good: boolean; text: string };

export interface Process {
  write(text: string): void;
  resize(columns: number, rows: number): void;
  /** Hangs up; the process sees its terminal go. */
  close(): void;
}

/** The query and path of an exec with a terminal. */
export function execPath(target: Target): string {
  const query = new URLSearchParams({ container: target.container, stdin: "true", stdout: "true", tty: "true" });
  for (const word of target.command) query.append("command", word);
  return `/api/v1/namespaces/${encodeURIComponent(target.namespace)}/pods/${encodeURIComponent(target.pod)}/exec?${query}`;
}

/** What the last message of the error channel, a Status, means. */
export function ending(status: { status?: string; message?: string; reason?: string; details?: { causes?: { reason?: string; message?: string }[] } }): Ending {
  if (status.status === "Success") return { good: true, text: "The process ended." };
  const code = status.details?.causes?.find((cause) => cause.reason === "ExitCode")?.message;
  return code === undefined
    ? { good: false, text: status.message ?? status.reason ?? "The process could not be started." }
    : { good: true, text: `The process ended with exit code ${code}.` };
}

/** Starts a process with a terminal. `ended` is called exactly once. */
export function exec(target: Target, output: (bytes: Uint8Array) => void, opened: () => void, ended: (how: Ending) => void): Process {
  const token = btoa(session()?.token ?? "").replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const socket = new WebSocket(execPath(target), [PROTOCOL, BEARER + token]);
  socket.binaryType = "arraybuffer";
  let last: Ending | undefined;
  let open = false;
  const send = (channel: number, text: string) => {
    if (socket.readyState !== WebSocket.OPEN) return;
    const body = new TextEncoder().encode(text);
    const message = new Uint8Array(body.length + 1);
    message[0] = channel;
    message.set(body, 1);
    socket.send(message);
  };
  socket.onopen = () => {
    open = true;
    opened();
  };
  socket.onmessage = (event: MessageEvent<ArrayBuffer>) => {
    const message = new Uint8Array(event.data);
    const body = message.subarray(1);
    if (message[0] === STDOUT || message[0] === STDERR) output(body);
    if (message[0] === ERROR && body.length) last = ending(JSON.parse(new TextDecoder().decode(body)));
  };
  socket.onclose = () => ended(last ?? { good: false, text: open ? "The connection was lost." : "The Supervisor did not open the terminal." });
  return {
    write: (text) => send(STDIN, text),
    resize: (columns, rows) => send(RESIZE, JSON.stringify({ Width: columns, Height: rows })),
    close: () => socket.close(),
  };
}
