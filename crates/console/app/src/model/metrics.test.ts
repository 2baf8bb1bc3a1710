import { describe, expect, test } from "vitest";
import { FRESH, KEPT, append, pointOf, total, type Point } from "./metrics";

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
    expect([history.length, history[0]?.time, history.at(-1)?.time]).toEqual([KEPT, 6, KEPT + 5]);
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
