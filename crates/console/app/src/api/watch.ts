// Lists that stay true: one list, then a watch, and the list again when the watch is too old.
import { onCleanup } from "solid-js";
import { createStore, produce, reconcile } from "solid-js/store";
import type { KubeObject } from "../model/types";
import { ApiError, get, lines, request } from "./client";

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

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

/** Watches a collection for as long as the owner lives. `path` may carry a query. */
export function watch<T extends KubeObject>(path: string): Live<T> {
  const [live, setLive] = createStore<Live<T>>({ items: {}, ready: false });
  const abort = new AbortController();
  onCleanup(() => abort.abort());
  const key = (object: T) => object.metadata.uid ?? object.metadata.name ?? "";
  const withQuery = (query: string) => `${path}${path.includes("?") ? "&" : "?"}${query}`;

  const list = async (): Promise<string> => {
    const answer = await get<{ metadata: { resourceVersion: string }; items: T[] }>(path, abort.signal);
    const items = Object.fromEntries(answer.items.map((item) => [key(item), item]));
    setLive("items", reconcile(items));
    setLive({ ready: true, error: undefined });
    return answer.metadata.resourceVersion;
  };

  const follow = async (from: string): Promise<void> => {
    const query = `watch=1&allowWatchBookmarks=true&resourceVersion=${from}`;
    for await (const line of lines(await request(withQuery(query), abort.signal))) {
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

  const run = async () => {
    let pause = FIRST_PAUSE;
    while (!abort.signal.aborted) {
      try {
        const revision = await list();
        pause = FIRST_PAUSE;
        await follow(revision);
      } catch (error) {
        if (abort.signal.aborted) return;
        setLive({ ready: true, error: error instanceof Error ? error.message : String(error) });
        // What may not be read will not become readable by asking more often.
        if (error instanceof ApiError && (error.code === 401 || error.code === 403)) return;
        if (error instanceof ApiError && error.code === 410) continue;
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(pause * 2, LONGEST_PAUSE);
      }
    }
  };
  void run();
  return live;
}

/** The objects, by name. */
export function sorted<T extends KubeObject>(live: Live<T>): T[] {
  return Object.values(live.items).sort((a, b) => (a.metadata.name ?? "").localeCompare(b.metadata.name ?? ""));
}
