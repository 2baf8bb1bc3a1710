// Lists that stay true: one list, then a watch, and the list again when the watch is too old.
import { onCleanup } from "solid-js";
import { createStore, produce, reconcile } from "solid-js/store";
import type { KubeObject } from "../model/types";
import { ApiError, get, lines, pauseFor, request } from "./client";

export interface Live<T extends KubeObject> {
  /** Objects by uid. */
  items: Record<string, T>;
  /** Whether the first list has come. */
  ready: boolean;
  /** What went wrong, while it does. */
  error?: string;
}

interface Change<T> {
  type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  object: T & { code?: number; message?: string };
}

interface List<T> {
  apiVersion?: string;
  kind?: string;
  metadata: { resourceVersion: string };
  items: T[];
}

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;

/** Watches a collection for as long as the owner lives. `path` may carry a query. */
export function watch<T extends KubeObject>(path: string): Live<T> {
  const [live, setLive] = createStore<Live<T>>({ items: {}, ready: false });
  const key = (object: T) => object.metadata.uid ?? object.metadata.name ?? "";

  const list = async (signal: AbortSignal): Promise<string> => {
    const answer = await get<List<T>>(path, signal);
    // Items of a list do not say what they are; the list does.
    const kind = answer.kind?.replace(/List$/, "");
    const whole = (item: T): T => ({ apiVersion: answer.apiVersion, kind, ...item });
    setLive("items", reconcile(Object.fromEntries(answer.items.map((item) => [key(item), whole(item)]))));
    setLive({ ready: true, error: undefined });
    return answer.metadata.resourceVersion;
  };

  const follow = async (from: string, signal: AbortSignal): Promise<void> => {
    const query = `watch=1&allowWatchBookmarks=true&resourceVersion=${from}`;
    const response = await request(`${path}${path.includes("?") ? "&" : "?"}${query}`, signal);
    for await (const line of lines(response)) {
      if (!line) continue;
      const change = JSON.parse(line) as Change<T>;
      if (change.type === "ERROR") throw new ApiError(change.object.code ?? 500, change.object.message ?? "watch failed");
      if (change.type === "BOOKMARK") continue;
      if (change.type === "DELETED") {
        setLive(produce((state) => void delete (state.items as Record<string, T>)[key(change.object)]));
      } else {
        setLive("items", key(change.object), reconcile(change.object as T) as never);
      }
    }
  };

  persist(async (signal) => follow(await list(signal), signal), (error) => setLive({ ready: true, error }));
  return live;
}

/** Watches one object by its path; undefined until it is there. */
export function watchOne<T extends KubeObject>(path: string): () => T | undefined {
  const [live, setLive] = createStore<{ object?: T }>({});
  const round = async (signal: AbortSignal) => {
    const object = await get<T>(path, signal);
    setLive("object", reconcile(object) as never);
    const query = `watch=1&resourceVersion=${object.metadata.resourceVersion}`;
    for await (const line of lines(await request(`${path}?${query}`, signal))) {
      if (!line) continue;
      const change = JSON.parse(line) as Change<T>;
      if (change.type === "ERROR") throw new ApiError(change.object.code ?? 500, change.object.message ?? "watch failed");
      if (change.type !== "BOOKMARK") setLive("object", change.type === "DELETED" ? undefined! : (reconcile(change.object) as never));
    }
  };
  persist(round, () => setLive("object", undefined!));
  return () => live.object;
}

/** Does something endless again whenever it ends, for as long as the owner lives; pauses grow while it fails. */
export function persist(round: (signal: AbortSignal) => Promise<void>, failed: (message: string) => void): void {
  const abort = new AbortController();
  onCleanup(() => abort.abort());
  const run = async () => {
    let pause = FIRST_PAUSE;
    while (!abort.signal.aborted) {
      const began = Date.now();
      try {
        await round(abort.signal);
      } catch (error) {
        if (abort.signal.aborted) return;
        // A watch that is too old, or whose connection broke, is begun anew: nothing that a person should read.
        const broken = Date.now() - began > LONGEST_PAUSE || (error instanceof ApiError && error.code === 410);
        if (!broken) failed(error instanceof Error ? error.message : String(error));
        // What may not be read will not become readable by asking more often.
        if (error instanceof ApiError && (error.code === 401 || error.code === 403)) return;
      }
      pause = Date.now() - began > LONGEST_PAUSE ? FIRST_PAUSE : pause * 2;
      await pauseFor(Math.min(pause, LONGEST_PAUSE));
    }
  };
  void run();
}

/** The objects, by name. */
export function sorted<T extends KubeObject>(live: Live<T>): T[] {
  return Object.values(live.items).sort((a, b) => (a.metadata.name ?? "").localeCompare(b.metadata.name ?? ""));
}
