import { describe, expect, test } from "vitest";
import { age, bytes, count, cpus, percent, plural, quantity } from "./format";

describe("quantity", () => {
  test.each([
    ["100m", 0.1], ["1", 1], ["1.5", 1.5], ["1k", 1000], ["64Mi", 64 * 2 ** 20], ["1e3", 1000],
    ["2Ki", 2048], ["250000000n", 0.25], ["-1", -1], ["x", undefined], [undefined, undefined],
  ])("%s is %s", (text, expected) => {
    const value = quantity(text);
    if (expected === undefined) expect(value).toBeUndefined();
    else expect(value).toBeCloseTo(expected, 9);
  });
});

test.each([[0, "0 B"], [1536, "1.5 KiB"], [512 * 2 ** 20, "512 MiB"], [undefined, "–"]])(
  "%s bytes read %s", (value, expected) => expect(bytes(value)).toBe(expected),
);

test.each([[0.1, "0.1 CPU"], [0.0123, "0.012 CPU"], [1, "1 CPU"], [0, "0 CPU"], [2.512, "2.51 CPU"], [16.25, "16.3 CPU"], [undefined, "–"]])(
  "%s CPUs read %s", (value, expected) => expect(cpus(value)).toBe(expected),
);

test.each([
  [5, "5s"], [119, "119s"], [125, "2m5s"], [180, "3m"], [15 * 60, "15m"], [4 * 3600 + 60, "4h1m"],
  [30 * 3600, "30h"], [72 * 3600, "3d"],
])("an age of %d s reads %s", (seconds, expected) => {
  const now = Date.parse("2026-01-02T00:00:00Z");
  expect(age(new Date(now - seconds * 1000).toISOString(), now)).toBe(expected);
});

test.each([[1, 4, 25], [5, 4, 100], [1, 0, undefined], [undefined, 4, undefined]])(
  "%s of %s is %s %%", (used, limit, expected) => expect(percent(used, limit)).toBe(expected),
);

test.each([[0, "0 VMs"], [1, "1 VM"], [2, "2 VMs"]])("%d in words", (number, words) => expect(plural(number, "VM")).toBe(words));

test.each([[6, "6"], [undefined, "–"]])("a count of %s", (value, words) => expect(count(value)).toBe(words));
