import { describe, expect, test } from "vitest";
import { FRESH, KEPT, append, merge, pastOf, pointOf, prepend, total, type Point } from "./metrics";

const point = (time: number, cpu = 0.1): Point => ({ time, cpu, memory: 100 });

describe("a measurement", () => {
  test("sums its containers and has what the VM takes", () => {
    const metrics = {
      metadata: { name: "web" }, timestamp: "2026-01-02T00:00:01.500Z",
      containers: [{ name: "a", usage: { cpu: "250m", memory: "1Mi" } }, { name: "b", usage: { cpu: "250000000n", memory: "1024Ki" } }],
      vm: { usage: { cpu: "600m", memory: "200Mi" } },
    };
    expect(pointOf(metrics, 7)).toEqual({
      time: Date.parse("2026-01-02T00:00:01.500Z") / 1000, cpu: 0.5, memory: 2 * 2 ** 20, vmCpu: 0.6, vmMemory: 200 * 2 ** 20,
    });
  });
  test("without a time is of now, and a simulated VM takes nothing", () => {
    expect(pointOf({ metadata: {} }, 7)).toEqual({ time: 7, cpu: 0, memory: 0, vmCpu: undefined, vmMemory: undefined });
  });
});

describe("a history", () => {
  test("keeps the newest points", () => {
    let history: Point[] = [];
    for (let time = 1; time <= KEPT + 5; time += 1) history = append(history, point(time));
    expect(history.length).toBeLessThanOrEqual(KEPT);
    expect([history.at(-600)?.time, history.at(-1)?.time]).toEqual([KEPT + 5 - 599, KEPT + 5]);
  });
  test("keeps an hour, the older part with gaps", () => {
    let history: Point[] = [];
    for (let time = 1; time <= 5000; time += 1) history = append(history, point(time));
    const first = history[0]!.time;
    expect(first).toBeGreaterThanOrEqual(1400);
    expect(first).toBeLessThan(1430);
    expect(history.length).toBeLessThanOrEqual(KEPT);
  });
  test("begins with what the host has kept", () => {
    const columns = ["time", "cpu", "memory", "vmCpu", "vmMemory"];
    const past = pastOf({ metadata: {}, vm: { history: { seconds: 15, columns, points: [[100, 5e8, 10, 6e8, 20], [115, 0, 0, 0, 0]] } } });
    expect(past[0]).toEqual({ time: 100, cpu: 0.5, memory: 10, vmCpu: 0.6, vmMemory: 20 });
    expect(prepend(past, [point(110)]).map((p) => p.time)).toEqual([100, 110]);
    expect(merge([past, past])[0]).toEqual({ time: 105, cpu: 1, memory: 20, vmCpu: 1.2, vmMemory: 40 });
    expect(pastOf({ metadata: {} })).toEqual([]);
  });
  test("never runs backwards", () => {
    const history = [point(5)];
    expect(append(history, point(5))).toBe(history);
    expect(append(history, point(4))).toBe(history);
  });
});

describe("a total", () => {
  test("adds up VMs that still report", () => {
    const newest = [{ ...point(100), vmCpu: 0.5, vmMemory: 300 }, point(99), point(99 - FRESH)];
    expect(total(newest, 100)).toEqual({ time: 100, cpu: 0.2, memory: 200, vmCpu: 0.6, vmMemory: 400 });
  });
  test("of nothing is nothing", () => expect(total([], 100)).toBeUndefined());
});
