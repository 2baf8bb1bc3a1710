import { expect, test } from "vitest";
import { podHealth, podStatus, restarts, vmSize } from "./pod";
import type { Pod } from "./types";

const pod = (rest: Partial<Pod>): Pod => ({ metadata: { name: "a" }, ...rest });
const ready = [{ type: "Ready", status: "True" }];

test.each<[string, Pod, string, string]>([
  ["new", pod({ status: { phase: "Pending" } }), "Pending", "warning"],
  ["placed", pod({ spec: { nodeName: "h" }, status: { phase: "Pending" } }), "ContainerCreating", "warning"],
  ["up", pod({ status: { phase: "Running", conditions: ready } }), "Running", "success"],
  ["not ready", pod({ status: { phase: "Running" } }), "Running", "warning"],
  ["done", pod({ status: { phase: "Succeeded" } }), "Completed", "neutral"],
  ["going", pod({ metadata: { deletionTimestamp: "x" }, status: { phase: "Running" } }), "Terminating", "neutral"],
  ["no image", pod({ status: { phase: "Pending",
    containerStatuses: [{ name: "c", state: { waiting: { reason: "ImagePullBackOff" } } }] } }), "ImagePullBackOff", "danger"],
  ["crashed", pod({ status: { phase: "Failed",
    containerStatuses: [{ name: "c", restartCount: 2, state: { terminated: { exitCode: 3 } } }] } }), "ExitCode:3", "danger"],
])("a Pod that is %s", (_, value, status, health) => {
  expect([podStatus(value), podHealth(value)]).toEqual([status, health]);
});

test("restarts are summed", () => {
  const statuses = [{ name: "a", restartCount: 2 }, { name: "b", restartCount: 1 }, { name: "c" }];
  expect(restarts(pod({ status: { containerStatuses: statuses } }))).toBe(3);
});

test.each([
  [[], 1, 512],
  [[{ cpu: "1500m", memory: "64Mi" }, { cpu: "600m", memory: "64Mi" }], 3, 128],
  [[{ cpu: "100m" }], 1, 512],
])("limits %j make a VM of %d vCPU and %d MiB", (limits, vcpus, mebibytes) => {
  const containers = limits.map((limit, index) => ({ name: `c${index}`, resources: { limits: limit as Record<string, string> } }));
  expect(vmSize(pod({ spec: { containers } }))).toEqual({ vcpus, memory: mebibytes * 2 ** 20 });
});
