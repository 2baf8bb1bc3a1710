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

/** Points kept: the last ten minutes at one a second, the hour before at one in fifteen. */
export const KEPT = 900;
/** Time that is kept, and time that is kept in full, in seconds. */
const HOUR = 3600;
const FULL = 600;
/** Distance of older points, in seconds. */
const STEP = 14;
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

/** The history with one more point; time never runs backwards, and old points go: first most, then all. */
export function append(history: readonly Point[], point: Point): Point[] {
  const last = history.at(-1);
  if (last && point.time <= last.time) return history as Point[];
  const next = [...history, point];
  return next.length > KEPT || point.time - next[0]!.time > HOUR ? thin(next, point.time) : next;
}

function thin(points: readonly Point[], now: number): Point[] {
  let kept = -Infinity;
  const fits = (point: Point) => {
    const age = now - point.time;
    if (age > HOUR || (age > FULL && point.time - kept < STEP)) return false;
    kept = point.time;
    return true;
  };
  return points.filter(fits).slice(-KEPT);
}

/** The hour before somebody looked, as the host has kept it: rows of numbers under named columns. */
export function pastOf(metrics: PodMetrics): Point[] {
  const history = metrics.vm?.history;
  if (!history) return [];
  const at = (row: number[], name: string) => row[history.columns.indexOf(name)];
  return history.points.map((row) => ({
    time: at(row, "time") ?? 0,
    cpu: (at(row, "cpu") ?? 0) / 1e9,
    memory: at(row, "memory") ?? 0,
    vmCpu: (at(row, "vmCpu") ?? 0) / 1e9,
    vmMemory: at(row, "vmMemory"),
  }));
}

/** A past in front of what was seen since. */
export function prepend(past: readonly Point[], history: readonly Point[]): Point[] {
  const first = history[0]?.time ?? Infinity;
  return [...past.filter((point) => point.time < first), ...history];
}

/** The pasts of several VMs as one: hosts measure all of theirs at the same moments, to the second. */
export function merge(pasts: Iterable<readonly Point[]>): Point[] {
  const sums = new Map<number, Point>();
  for (const past of pasts) {
    for (const point of past) {
      const time = Math.round(point.time / 15) * 15;
      const sum = sums.get(time) ?? { time, cpu: 0, memory: 0, vmCpu: 0, vmMemory: 0 };
      sum.cpu += point.cpu;
      sum.memory += point.memory;
      sum.vmCpu = sum.vmCpu! + (point.vmCpu ?? point.cpu);
      sum.vmMemory = sum.vmMemory! + (point.vmMemory ?? point.memory);
      sums.set(time, sum);
    }
  }
  return [...sums.values()].sort((a, b) => a.time - b.time);
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
