// Usage of the Pod VMs of one namespace, live: the API server pushes a measurement of each every second. Pages of
// one namespace share a stream and its history, so a chart is there at once when one goes from the list to a VM.
import { createSignal } from "solid-js";
import { createStore } from "solid-js/store";
import { append, merge, pastOf, pointOf, prepend, total, type Point } from "../model/metrics";
import type { PodMetrics } from "../model/types";
import { lines, request } from "./client";
import { persist } from "./watch";

export interface Usage {
  /** The measurements of a Pod VM, oldest first. */
  of: (pod: string) => Point[];
  /** The newest measurement of a Pod VM. */
  newest: (pod: string) => Point | undefined;
  /** The measurements of the whole namespace. */
  whole: () => Point[];
  problem: () => string | undefined;
}

/** Histories outlive the pages, not the session: see [`forget`]. */
const kept = new Map<string, Kept>();

interface Kept {
  usage: Usage;
  take: (metrics: PodMetrics) => void;
  setProblem: (text: string | undefined) => void;
}

/** Drops all histories: the next user may see other namespaces. */
export function forget(): void {
  kept.clear();
}

/** Follows the usage in a namespace for as long as the owner lives. */
export function follow(namespace: string): Usage {
  let entry = kept.get(namespace);
  if (!entry) kept.set(namespace, (entry = make()));
  const { usage, take, setProblem } = entry;
  const path = `/apis/metrics.k8s.io/v1beta1/namespaces/${namespace}/pods?watch=1&history=1`;
  persist(async (signal) => {
    const response = await request(path, signal);
    setProblem(undefined);
    for await (const line of lines(response)) {
      if (line) take((JSON.parse(line) as { object: PodMetrics }).object);
    }
  }, setProblem);
  return usage;
}

function make(): Kept {
  const [histories, setHistories] = createStore<Record<string, Point[]>>({});
  const [whole, setWhole] = createSignal<Point[]>([]);
  const [problem, setProblem] = createSignal<string>();
  const newest = new Map<string, Point>();
  // What was before the first look at each VM; what comes after it is measured here.
  const pasts = new Map<string, Point[]>();
  const began = Date.now() / 1000 - 1;
  const take = (metrics: PodMetrics) => {
    const pod = metrics.metadata.name ?? "";
    const point = pointOf(metrics, Date.now() / 1000);
    newest.set(pod, point);
    const past = pastOf(metrics);
    if (past.length && !pasts.has(pod)) {
      pasts.set(pod, past);
      setHistories(pod, (before) => prepend(past, before ?? []));
      setWhole((before) => prepend(merge(pasts.values()), before.filter((seen) => seen.time >= began)));
    }
    setHistories(pod, (before) => append(before ?? [], point));
    // Once a second, when every VM has had its turn.
    if (point.time - (whole().at(-1)?.time ?? 0) < 0.9) return;
    const sum = total(newest.values(), point.time);
    if (sum) setWhole((before) => append(before, sum));
  };
  const of = (pod: string) => histories[pod] ?? [];
  return { usage: { of, newest: (pod) => of(pod).at(-1), whole, problem }, take, setProblem };
}
