// What Pod VMs use: measurements from the wire as numbers, and the histories that charts draw.
import { quantity } from "./format";
import type { PodMetrics } from "./types";

/** One measurement: CPUs and bytes. `vm…` is what the host is charged for the whole VM, where it says so. */
export interface Point {
  /** Seconds since 1970. */
  time: number;
  cpu: number;
  memory: number;
  vmCpu?: number;
  vmMemory?: number;
}

/** Points kept: ten minutes at one a second. */
export const KEPT = 600;
/** A measurement older than this, in seconds, says nothing about now. */
export const FRESH = 10;

export function pointOf(metrics: PodMetrics, now: number): Point {
  const sum = (name: string) =>
    (metrics.containers ?? []).reduce((total, container) => total + (quantity(container.usage?.[name]) ?? 0), 0);
  const stamp = Date.parse(metrics.timestamp ?? "") / 1000;
  return {
    time: Number.isFinite(stamp) ? stamp : now,
    cpu: sum("cpu"),
    memory: sum("memory"),
    vmCpu: quantity(metrics.vm?.usage?.["cpu"]),
    vmMemory: quantity(metrics.vm?.usage?.["memory"]),
  };
}

/** The history with one more point; time never runs backwards, and old points go. */
export function append(history: readonly Point[], point: Point): Point[] {
  const last = history.at(-1);
  if (last && point.time <= last.time) return history as Point[];
  return [...history.slice(-(KEPT - 1)), point];
}

/** The sum of the newest points of several VMs, without those that have gone silent; undefined without any. */
export function total(newest: Iterable<Point>, now: number): Point | undefined {
  let sum: Point | undefined;
  for (const point of newest) {
    if (now - point.time > FRESH) continue;
    sum ??= { time: now, cpu: 0, memory: 0, vmCpu: 0, vmMemory: 0 };
    sum.cpu += point.cpu;
    sum.memory += point.memory;
    sum.vmCpu = sum.vmCpu! + (point.vmCpu ?? point.cpu);
    sum.vmMemory = sum.vmMemory! + (point.vmMemory ?? point.memory);
  }
  return sum;
}
