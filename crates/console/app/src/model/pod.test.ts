import { expect, test } from "vitest";
import { podHealth, podStatus, restarts, states, trouble, vmSize } from "./pod";
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

const init = (...statuses: object[]) => pod({
  spec: { nodeName: "h", initContainers: [{ name: "i" }, { name: "s", restartPolicy: "Always" }] },
  status: { phase: "Pending", initContainerStatuses: statuses as never },
});
test.each<[string, Pod, string, string]>([
  ["the first", init({ name: "i", state: { running: {} } }), "Init:0/2", "warning"],
  ["the sidecar", init({ name: "i", state: { terminated: { exitCode: 0 } } }, { name: "s", state: { running: {} } }), "Init:1/2", "warning"],
  ["nothing", init({ name: "i", state: { terminated: { exitCode: 0 } } }, { name: "s", started: true, state: { running: {} } }), "ContainerCreating", "warning"],
  ["a crash", init({ name: "i", state: { waiting: { reason: "CrashLoopBackOff" } } }), "Init:CrashLoopBackOff", "danger"],
  ["an error", init({ name: "i", state: { terminated: { exitCode: 1, reason: "Error" } } }), "Init:Error", "danger"],
  ["the beginning", init({ name: "i", state: { waiting: { reason: "PodInitializing" } } }), "Init:0/2", "warning"],
])("init containers that wait for %s", (_, value, status, health) => {
  expect([podStatus(value), podHealth(value)]).toEqual([status, health]);
});

test.each<[string, Pod["status"], string | undefined]>([
  ["no host", { phase: "Pending", conditions: [{ type: "PodScheduled", status: "False", message: "0/1 nodes" }] }, "0/1 nodes"],
  ["no image", { phase: "Pending", containerStatuses: [{ name: "c", state: { waiting: { reason: "ErrImagePull", message: "404" } } }] }, "c: 404"],
  ["a beginning", { phase: "Pending", containerStatuses: [{ name: "c", state: { waiting: { reason: "ContainerCreating", message: "x" } } }] }, undefined],
  ["an end", { phase: "Failed", reason: "Evicted", message: "too much" }, "too much"],
  ["nothing", { phase: "Running" }, undefined],
])("the trouble of a Pod with %s", (_, status, words) => expect(trouble(pod({ status }))).toBe(words));

test("restarts are summed", () => {
  const statuses = [{ name: "a", restartCount: 2 }, { name: "b", restartCount: 1 }, { name: "c" }];
  expect(restarts(pod({ status: { containerStatuses: statuses } }))).toBe(3);
});

test("states are counted, the commonest first", () => {
  const running = pod({ status: { phase: "Running" } });
  expect(states([pod({ status: { phase: "Pending" } }), running, running])).toBe("2 Running, 1 Pending");
  expect(states([])).toBe("");
});

const limits = (cpu?: string, memory?: string) => ({ resources: { limits: { ...(cpu && { cpu }), ...(memory && { memory }) } } });
const requests = (cpu?: string, memory?: string) => ({ resources: { requests: { ...(cpu && { cpu }), ...(memory && { memory }) } } });

// The same cases as the host agent's: 64 MiB for the guest itself come on top of the limits.
test.each<[string, Pod["spec"], number, number, number?, number?]>([
  ["nothing", { containers: [{ name: "a" }] }, 1, 512],
  ["limits", { containers: [{ name: "a", ...limits("1500m", "256Mi") }] }, 2, 320, 1.5, 1.5],
  ["two containers", { containers: [{ name: "a", ...limits("1500m", "64Mi") }, { name: "b", ...limits("600m", "64Mi") }] }, 3, 192, 2.1, 2.1],
  ["a request", { containers: [{ name: "a", ...requests("100m", "1Gi") }] }, 1, 1088, undefined, 0.1],
  ["a small request", { containers: [{ name: "a", ...requests(undefined, "100Mi") }] }, 1, 512],
  ["one without a limit", { containers: [{ name: "a", ...limits("1", "100Mi") }, { name: "b" }] }, 1, 512, undefined, 1],
  ["a tiny limit", { containers: [{ name: "a", ...limits("1", "8Mi") }] }, 1, 96, 1, 1],
  ["a large init container", { containers: [{ name: "a", ...limits("1", "100Mi") }],
    initContainers: [{ name: "i", ...limits("3", "1Gi") }] }, 3, 1088, 3, 3],
  ["a sidecar", { containers: [{ name: "a", ...limits("1", "100Mi") }],
    initContainers: [{ name: "s", restartPolicy: "Always", ...limits("1", "100Mi") }] }, 2, 264, 2, 2],
  ["a limit of the whole Pod", { resources: limits("2", "1Gi").resources, containers: [{ name: "a" }] }, 2, 1088, 2, 2],
])("the VM of a Pod with %s", (_, spec, vcpus, mebibytes, cpuLimit, cpuReserved) => {
  const size = vmSize(pod({ spec }));
  expect([size.vcpus, size.memory / 2 ** 20, size.cpuLimit, size.cpuReserved]).toEqual([vcpus, mebibytes, cpuLimit, cpuReserved]);
});
